"""The parts of infoae sort: whether new pictures are like the old, how long a training takes, what is listed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from infoae.config import recipes
from infoae.data.image_spec import ImageSpec
from infoae.errors import InfoAEError
from infoae.methods.schedules import schedule_of
from infoae.planning import checked
from infoae.sorting import inventory, likeness, pace, state
from infoae.sorting.pace import Pace
from tests.helpers.paths import ROOT
from tests.helpers.settings import WITH_HEADS

RANDOM = np.random.default_rng(5)
OLD = RANDOM.choice(3, 2000, p=[0.5, 0.3, 0.2])
SURE = RANDOM.uniform(0.5, 1, 2000)


def told(categories: object, probabilities: object, unsure: float = 0.6) -> list[str]:
    known = likeness.of_answers(OLD, SURE, 3)
    return list(likeness.differences(known, np.asarray(categories), np.asarray(probabilities), unsure))


def test_pictures_like_the_old_are_not_told_of() -> None:
    for seed in range(20):
        random = np.random.default_rng(seed)
        count = int(random.integers(1, 300))
        assert not told(random.choice(OLD, count), random.choice(SURE, count))


def test_other_categories_and_more_doubt_are_told() -> None:
    share = np.mean(OLD == 2)
    assert told(np.full(100, 2), RANDOM.choice(SURE, 100)) == [f"category 2 has 100% of them, {share:.0%} before"]
    (doubt,) = told(RANDOM.choice(OLD, 100), np.full(100, 0.3))
    assert doubt.startswith("100% of them are unsure, ")
    assert not told(np.full(likeness.FEWEST - 1, 2), np.full(likeness.FEWEST - 1, 0.3))


@pytest.mark.parametrize("unsure", [0.0, 0.55, 0.6, 0.9, 1.0])
def test_the_share_of_the_unsure_is_known_for_any_threshold(unsure: float) -> None:
    known = likeness.of_answers(OLD, SURE, 3)
    assert likeness.share_unsure(known, unsure) == pytest.approx(np.mean(unsure > SURE), abs=0.01)


def test_the_time_of_a_training_is_that_of_its_steps_epochs_and_neighbours() -> None:
    config = recipes.load("mnist")  # 15, 4 and 11 epochs; 1,000 pictures in batches of 500, 100 steps an epoch
    names = [stage.name for stage in schedule_of(config).stages]
    found = Pace(500, 7.0, dict(zip(names, (0.1, 0.2, 0.3), strict=True)), dict.fromkeys(names, 2.0))
    expected = 2 * 7 + 100 * (15 * 0.1 + 4 * 0.2 + 11 * 0.3) + 30 * 2 * 2
    assert found.seconds(config, 1000) == pytest.approx(expected)
    for budget, least in ((expected, 30), (0.5 * expected, 12), (1.0, 8)):
        settings, said = pace.fitted(config, 1000, found, budget)
        shorter = recipes.load("mnist", settings)
        assert least <= shorter.train.epochs <= max(least, 15)
        assert (found.seconds(shorter, 1000) <= budget) == ("too short" not in said)
        ratio = [
            len(a.epochs) / len(b.epochs)
            for a, b in zip(*(schedule_of(c).stages for c in (shorter, config)), strict=True)
        ]
        assert max(ratio) - min(ratio) < 0.35  # in proportion, but for whole epochs
    assert (shorter.stages.mutual_information_epochs, shorter.stages.pseudo_label_epochs, shorter.train.epochs) == (
        3,
        2,
        8,
    )


def test_a_rehearsal_takes_the_time_of_every_stage(tmp_path: Path) -> None:
    plan = checked(recipes.load("smoke", WITH_HEADS), tmp_path, "smoke", None, None)
    found = pace.measured(plan)
    names = {stage.name for stage in schedule_of(plan.config).stages}
    assert set(found.step) == set(found.after) == names
    assert min(*found.step.values(), *found.after.values(), found.before) > 0
    assert found.count == 300
    assert not any(tmp_path.iterdir())


def test_a_list_is_taken_file_by_file_and_names_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"12345")
    names = tmp_path / "names.txt"
    names.write_text(f"{tmp_path}/a.png\n{tmp_path}/nosuch.png\n{tmp_path}/a.png\n")
    image = ImageSpec(channels=1, height=8, width=8)
    found = inventory.take(names, image)
    assert [Path(path).name for path in found.paths] == ["a.png", "nosuch.png"]
    assert [state.size for state in found.states] == [5, -1]
    names.write_text(f"{tmp_path}\n")
    with pytest.raises(InfoAEError, match="a list is one of files"):
        inventory.take(names, image)


def test_the_page_has_every_file_of_a_result() -> None:
    page = (ROOT / "docs" / "sorting.md").read_text(encoding="utf-8")
    table = page.partition("<!-- contents of a sort -->")[2].partition("\n\n")[0]
    assert dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", table, flags=re.MULTILINE)) == state.CONTENTS
