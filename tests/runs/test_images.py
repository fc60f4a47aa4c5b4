"""A run goes on with the images it was begun with, wherever they lie now."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoae.config import Config, Data, recipes
from infoae.data import ImageSet
from infoae.data.shards import Shards
from infoae.errors import InfoAEError, UsageError
from infoae.planning import with_image_shape
from infoae.runs import images
from infoae.runs.run import IMAGES, Run
from tests.helpers.commands import SETTINGS, call
from tests.helpers.inputs import write_shards

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (30, 1, 8, 8), np.uint8)


@given(st.data())
def test_any_other_image_is_another_identity(data: st.DataObject) -> None:
    changed = PIXELS.copy()
    changed.reshape(-1)[data.draw(st.integers(0, changed.size - 1))] ^= data.draw(st.integers(1, 255))
    known = images.identify(PIXELS)
    assert images.identify(changed) != known
    assert images.identify(PIXELS[: data.draw(st.integers(1, 29))]) != known
    assert images.identify(PIXELS[::-1]) != known
    assert images.identify(PIXELS.copy()) == known


def test_it_is_the_same_in_memory_and_in_any_shards(tmp_path: Path) -> None:
    for number in (1, 4):
        write_shards(tmp_path / str(number), PIXELS, number, ImageSet(PIXELS, None))
        assert images.identify(Shards(tmp_path / str(number) / "train")) == images.identify(PIXELS)


def test_of_very_many_images_some_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "WHOLE_BYTES", 10 * 64)
    changed = PIXELS.copy()
    changed[1] ^= 1
    assert images.identify(changed) == images.identify(PIXELS)
    changed[3] ^= 1
    assert images.identify(changed) != images.identify(PIXELS)


def test_a_run_refuses_others_and_says_what_differs(tmp_path: Path, tiny_config: Config) -> None:
    run = Run.create(tmp_path, "one", "smoke", tiny_config)
    images.keep(run, images.identify(PIXELS), Data())
    images.keep(run, images.identify(PIXELS), Data())
    with pytest.raises(InfoAEError, match=r"begun with 30 images \(1, 8, 8\) .* has 29 images .*--data-root"):
        images.keep(run, images.identify(PIXELS[1:]), Data())
    for content in ("", "{}", "[]", '{"count": "many"}'):
        (run.path / IMAGES).write_text(content)
        with pytest.raises(InfoAEError, match=r"images\.json is damaged .*remove it"):
            images.keep(run, images.identify(PIXELS), Data())


@pytest.mark.parametrize("channels", [2, 4])
def test_images_that_could_not_be_used_afterwards_are_refused_first(channels: int) -> None:
    with pytest.raises(UsageError, match=f"images have {channels} channels"):
        with_image_shape(recipes.load("smoke"), ImageSet(np.zeros((4, channels, 8, 8), np.uint8), None))


def test_data_that_moved_is_found_and_data_that_changed_is_refused(tmp_path: Path) -> None:
    test = ImageSet(RANDOM.integers(0, 256, (40, 1, 28, 28), np.uint8), None)
    pixels = RANDOM.integers(0, 256, (60, 1, 28, 28), np.uint8)
    write_shards(tmp_path / "here", pixels, 2, test)
    given = [*SETTINGS, "--data-root", "here", "--set", "data.limit=null", "--name", "r"]
    assert call("train", "--config", "smoke", *given, "--epochs", "1", cwd=tmp_path).returncode == 0
    (tmp_path / "here").rename(tmp_path / "there")
    gone = call("evaluate", "r", cwd=tmp_path)
    assert gone.returncode == 1
    for verb in (["evaluate", "r"], ["figures", "r"], ["train", "--resume", "r", "--epochs", "2"]):
        found = call(*verb, "--data-root", "there", cwd=tmp_path)
        assert found.returncode == 0, found.stderr
    assert Run.open("r", tmp_path / "runs").config().data.root == tmp_path / "there"
    pixels[7] ^= 1
    write_shards(tmp_path / "changed", pixels, 2, test)
    refused = call("train", "--resume", "r", "--epochs", "3", "--data-root", "changed", cwd=tmp_path)
    assert refused.returncode == 1
    assert "was begun with 60 images" in refused.stderr
    assert refused.stderr.count("\n") == 1
