"""`infoae reproduce TABLE`: two methods trained for real, interrupted, gone on with, and told of in one table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from infoae import launch
from infoae.launch import Executor
from infoae.planning import Plan
from infoae.reproduce.seeds import read
from infoae.results import TrainingResult
from infoae.trainer import Trainer
from tests.helpers.commands import call
from tests.helpers.methods import tiny

PUBLISHED = {"error": "4.10 (± 1.12)", "protocol": "many-to-one", "source": "Makhzani et al. 2016"}
TWELVE = [*tiny("aae"), "model.num_categories=12"]
ROWS = [
    {"heading": "AAE, 12", "recipe": "aae", "settings": TWELVE, "published": PUBLISHED},
    {"heading": "CatGAN", "recipe": "catgan", "settings": tiny("catgan"), "budgets": ["own", "quick"]},
]
BUDGETS = {"own": [], "equal": ["train.epochs=1"], "alike": ["train.epochs=1"], "quick": ["train.epochs=1"]}
AAE, CATGAN = "aae-12", "catgan"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    table = {"title": "Two methods", "budgets": BUDGETS, "rows": ROWS}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(table, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return tmp_path


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that are trained from now on."""
    names: list[str] = []
    original = launch.run

    def noted(plan: Plan, executor: Executor) -> TrainingResult:
        names.append(plan.name or (plan.resumed.name if plan.resumed else ""))
        return original(plan, executor)

    monkeypatch.setattr(launch, "run", noted)
    return names


@pytest.mark.slow
def test_a_table_is_trained_stopped_repeated_and_told_of(
    here: Path, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["reproduce", "small.yaml", "--seeds", "3,4"]
    fit = Trainer.fit

    def stopped_in_catgan(self: Trainer, reporters: object, stop: object) -> bool:
        stops = self.run.name == "own-catgan-seed-3"
        return fit(self, reporters, (lambda: self.done == 2) if stops else stop)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "fit", stopped_in_catgan)
        stopped = call(*command, cwd=here)
    assert stopped.returncode == 130
    assert stopped.stderr.endswith("stopped with 1 of 4 rows; repeat the command to go on\n")
    out = here / "results" / "small"
    assert (out / "own" / AAE / "summary.json").exists()
    assert not (out / "own" / CATGAN).exists()
    assert not list(out.glob("small.*"))

    done = call(*command, "--json", cwd=here)
    assert done.returncode == 0, done.stderr
    runs = [f"{row}-seed-{seed}" for row in (f"own-{AAE}", f"own-{CATGAN}", f"equal-{AAE}") for seed in (3, 4)]
    assert trained == [*runs[:3], *runs[2:]]  # the stopped one went on; budget alike has the runs of budget equal
    found = json.loads(done.stdout)
    assert found == json.loads((out / "small.json").read_text(encoding="utf-8"))
    rows = [(row["budget"], row["heading"], row["categories"]) for row in found["rows"]]
    assert rows == [("own", "AAE, 12", 12), ("own", "CatGAN", 10), ("equal", "AAE, 12", 12), ("alike", "AAE, 12", 12)]
    assert [row["published"] for row in found["rows"]] == [PUBLISHED, None, PUBLISHED, PUBLISHED]

    results = [read(out / "own" / AAE / f"seed-{seed}.json") for seed in (3, 4)]
    one, many = ([result.measures[name] for result in results] for name in ("accuracy", "many_to_one"))
    assert found["rows"][0]["measures"]["accuracy"]["mean"] == pytest.approx(sum(one) / 2)
    assert found["rows"][0]["best_by_score"]["seed"] == max(results, key=lambda result: result.score).seed
    assert found["rows"][0]["num_parameters"] == results[0].evaluation["num_parameters"] > 1000
    text = (out / "small.md").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("| AAE, 12 |"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1:3] == ["12", "4.10 (± 1.12) many-to-one (Makhzani et al. 2016)"]
    assert cells[3].startswith(f"{100 - 50 * sum(one):.2f} (± ")
    assert cells[4] == f"{100 - 100 * min(one):.2f}"
    assert cells[6] == f"{100 - 100 * min(many):.2f}"
    assert cells[-2:] == [f"{results[0].evaluation['num_parameters']:,}", "2"]
    assert text.count("\n## Budget ") == 3
    assert "## Budget equal: `train.epochs=1`" in text
    assert "One-to-one: " in text
    assert "Many-to-one: " in text
    with Image.open(out / "samples.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 5

    # Nothing is trained again; a row whose best run is gone has no picture, and what is older still stands.
    trained.clear()
    for run in (here / "runs").glob("own-*"):
        shutil.rmtree(run)
    older = out / "own" / CATGAN / "seed-3.json"
    result = json.loads(older.read_text())
    older.write_text(json.dumps({key: result[key] for key in result if key not in ("num_parameters", "many_to_one")}))
    again = call(*command, cwd=here)
    assert again.returncode == 0, again.stderr
    assert trained == []
    assert again.stdout.count("no samples: no run 'own-") == 2
    assert again.stdout.rstrip().endswith("results/small/samples.png")
    line = next(line for line in again.stdout.splitlines() if line.startswith("| CatGAN |"))
    assert line.count(" – |") == 3  # nothing published, many-to-one and its worst
    fewer = call("reproduce", "small.yaml", "--seeds", "4", cwd=here)  # as another process would, beside this one
    assert trained == []
    assert " 1 |\n" in fewer.stdout
    assert all((out / "own" / AAE / f"seed-{seed}.json").exists() for seed in (3, 4))


def test_quick_is_one_budget_on_one_seed_apart_from_the_rest(here: Path, trained: list[str]) -> None:
    done = call("reproduce", "small.yaml", "--seeds", "6-9", "--quick", "--set", "data.limit=100", cwd=here)
    assert done.returncode == 0, done.stderr
    assert trained == [f"quick-{AAE}-seed-6", f"quick-{CATGAN}-seed-6"]
    out = here / "results" / "small-quick"
    found = json.loads((out / "small.json").read_text(encoding="utf-8"))
    assert found["command"] == "infoae reproduce small.yaml --seeds 6-9 --set data.limit=100 --quick"
    assert [row["seeds"] for row in found["rows"]] == [[6], [6]]
    assert read(out / "quick" / CATGAN / "seed-6.json").config["data"]["limit"] == 100
    assert "(± 0" not in (out / "small.md").read_text(encoding="utf-8")  # a single seed has no deviation


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tabel1"], "no recipe, table or readable file 'tabel1'"),
        (["smoke", "--quick"], "--quick is of tables (ablation, table1); smoke is a recipe"),
        (["table1", "--set", "model.style_dim=3"], "own, InfoGAN, 10 categories: "),
        (["table1", "--seeds", "x"], "--seeds 'x': give numbers and ranges"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing_behind(arguments: list[str], message: str, tmp_path: Path) -> None:
    refused = call("reproduce", *arguments, cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"error: {message}"), refused.stderr
    assert (refused.stdout, refused.stderr.count("\n")) == ("", 1)
    assert list(tmp_path.iterdir()) == []
