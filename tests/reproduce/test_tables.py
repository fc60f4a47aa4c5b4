"""Table files: the one that comes with infoae, and what is refused before anything trains."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infoae.config import recipes
from infoae.errors import UsageError
from infoae.methods.schedules import schedule_of
from infoae.reproduce import tables

WRONG = {
    "unknown key rows.1.headng": "rows: [{heading: a, recipe: smoke}, {heading: b, recipe: smoke, headng: c}]",
    "did you mean rows.published.source?": "rows: [{heading: a, recipe: smoke, published: {sorce: x}}]",
    "unknown key budgts (given 1); did you mean budgets?": "budgts: 1",
    "title: Field required": "title:",
    "rows: List should have at least 1 item": "rows: []",
    "budgets.Own.[key]: String should match": "budgets: {Own: []}",
    "no budget 'oown'; there are own, quick": "rows: [{heading: a, recipe: smoke, budgets: [oown]}]",
    "rows 'A' and 'a.' would share a folder": "rows: [{heading: A, recipe: smoke}, {heading: a., recipe: aae}]",
    "rows.0.published.error: Input should be a valid string (given 4.1)": (
        "rows: [{heading: a, recipe: smoke, published: {error: 4.10, protocol: one-to-one, source: x}}]"
    ),
    "(given 'many')": "rows: [{heading: a, recipe: smoke, published: {error: '5', protocol: many, source: x}}]",
    "rows.0.heading: String should match": "rows: [{heading: a | b, recipe: smoke}]",
}
FILE = {
    "title": "title: T",
    "budgets": "budgets: {own: [], quick: [train.epochs=1]}",
    "rows": "rows: [{heading: a, recipe: smoke}]",
}


def written(tmp_path: Path, *lines: str) -> str:
    """A table of one row, with some of its keys written otherwise."""
    keys = FILE | {line.partition(":")[0]: line for line in lines}
    path = tmp_path / "table.yaml"
    path.write_text("\n".join(line for line in keys.values() if line != "title:"), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", tables.available())
def test_every_table_that_comes_with_infoae_can_be_trained(name: str) -> None:
    for quick in (False, True):
        assert entries(name, quick=quick)


def test_the_ablation_leaves_out_what_its_rows_say() -> None:
    configs = {entry.row.heading: entry.config for entry in entries("ablation")}
    whole = configs["recipe mnist"]
    assert whole == recipes.load("mnist")
    assert not configs["without neighbours"].compares_neighbours()
    assert configs["without the vote"].objective.weights.pseudo_label == 0
    assert configs["without over-categories"].model.num_over_categories == whole.model.num_categories
    assert set(schedule_of(configs["without the generator side"]).stages[-1].losses) == {
        "mutual_information",
        "pseudo_label",
    }
    for row, names in {
        "without the self-critic": {"encoder_adversarial", "self_critic"},
        "without reconstruction": {"reconstruction"},
    }.items():
        losses = [set(schedule_of(config).stages[-1].losses) for config in (whole, configs[row])]
        assert losses[0] - losses[1] == names


def loaded(source: str) -> tables.Table:
    found = tables.load(source)
    assert found is not None
    return found


def entries(source: str, *overrides: str, quick: bool = False) -> list[tables.Entry]:
    return tables.entries(loaded(source), quick, overrides)


def test_table_1_has_every_row_in_both_budgets_and_one_that_is_our_own() -> None:
    found = entries("table1")
    own, equal = ([entry for entry in found if entry.budget == budget] for budget in ("own", "equal"))
    assert len(own) + len(equal) == len(found)
    assert [entry.row for entry in own[:-1]] == [entry.row for entry in equal]
    assert own[-1].row.recipe == "mnist"
    categories = [(entry.config.method, entry.config.model.num_categories) for entry in equal]
    assert categories == [
        ("infogan", 10), ("infogan", 20), ("aae", 10), ("aae", 30), ("catgan", 10), ("catgan", 20),
        ("pixelgan-ae", 10), ("pixelgan-ae", 30), ("infoae", 10),
    ]  # fmt: skip
    published = {entry.row.published.error for entry in equal if entry.row.published}
    assert published == {"5", "4.10 (± 1.12)", "4.27", "5.27 (± 1.81)", "1.1 (± 0.1)"}
    assert len({entry.config.train.epochs for entry in equal}) == 1, "all see the same number of images"
    assert all(entry.config.optim.decay_epochs == entry.config.train.epochs // 3 for entry in equal)
    for entry in own:
        assert entry.config == recipes.load(entry.row.recipe, entry.row.settings)
    quick = entries("table1", quick=True)
    assert [entry.row for entry in quick] == [entry.row for entry in equal]
    assert {entry.budget for entry in quick} == {"quick"}
    assert max(entry.config.train.epochs for entry in quick) == 2


def test_runs_collide_only_where_configurations_are_the_same() -> None:
    found = entries("table1")
    by_run = {entry.run: entry.config for entry in found}
    assert all(by_run[entry.run] == entry.config for entry in found)
    assert len(by_run) < len(found)  # three recipes have the equal budget as their own
    assert {entry.run for entry in found}.isdisjoint(entry.run for entry in entries("table1", quick=True))
    assert found[3].run == "own-aae-30-categories"


def test_every_recipe_is_no_table() -> None:
    assert tables.available()
    assert tables.available().keys().isdisjoint(recipes.available())
    assert [name for name in recipes.available() if tables.load(name) is not None] == []


@pytest.mark.parametrize(("message", "line"), WRONG.items(), ids=WRONG)
def test_a_wrong_table_is_one_line_that_names_what_is_wrong(message: str, line: str, tmp_path: Path) -> None:
    source = written(tmp_path, line)
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        tables.load(source)
    assert str(caught.value).startswith(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("rows: [{heading: A, recipe: smok}]", "own, A: no recipe or readable file 'smok'"),
        ("rows: [{heading: A, recipe: smoke, settings: [model.widht=4]}]", "own, A: .*did you mean model.width?"),
        ("budgets: {own: [train.epochs]}", "own, a: --set takes section.key=value, not 'train.epochs'"),
        ("budgets: {quick: []}", "no row in a budget other than quick: give --quick"),
    ],
)
def test_a_row_that_cannot_be_trained_is_named_before_anything_is(line: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        entries(written(tmp_path, line))


def test_a_table_without_a_quick_budget_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no row in budget quick: leave --quick out"):
        entries(written(tmp_path, "budgets: {own: []}"), quick=True)


def test_a_name_that_is_neither_lists_recipes_and_tables() -> None:
    with pytest.raises(UsageError, match=r"no recipe, table or readable file 'tabel1' .*; there are aae, .*, table1$"):
        tables.load("tabel1")


def test_a_setting_of_the_row_a_budget_and_the_user_each_over_the_one_before(tmp_path: Path) -> None:
    row = "rows: [{heading: a, recipe: smoke, settings: [model.width=4, train.batch_size=50, train.epochs=9]}]"
    source = written(tmp_path, row, "budgets: {own: [train.batch_size=60, train.epochs=8]}")
    (found,) = entries(source, "train.epochs=7")
    train = found.config.train
    assert (found.config.model.width, train.batch_size, train.epochs) == (4, 60, 7)
