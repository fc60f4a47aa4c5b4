from __future__ import annotations

import csv
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoae.data.image_spec import ImageSpec
from infoae.deploy import pictures
from infoae.deploy.bundle import Bundle
from infoae.deploy.generator import Generator
from infoae.deploy.pictures import Pictures
from infoae.errors import UsageError
from infoae.limits import MAX_IMAGES, MAX_NPZ_BYTES
from tests.helpers.bundles import make_bundle
from tests.helpers.commands import call


@given(st.integers(1, 2**31 - 1), st.integers(1, 10_000), st.integers(8, 4096), st.sampled_from(["made", "made.npz"]))
def test_an_amount_is_refused_by_its_number_alone(count: int, categories: int, side: int, out: str) -> None:
    image = ImageSpec.model_validate({"channels": 3, "height": side, "width": side})
    total = count * categories
    too_many = total > MAX_IMAGES or (out == "made.npz" and total * 3 * side**2 > MAX_NPZ_BYTES)
    if too_many:
        with pytest.raises(UsageError, match=f"--count {count}: "):
            pictures.check_amount(count, categories, image, Path(out))
    else:
        pictures.check_amount(count, categories, image, Path(out))


def test_a_huge_count_ends_at_once(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle")
    for count in ("2147483647", str(10**11)):
        done = call("generate", "--model", "bundle", "--out", "made", "--count", count, cwd=tmp_path)
        assert done.returncode == 2
        assert "--count" in done.stderr
        assert not (tmp_path / "made").exists()


def test_images_made_in_parts_are_those_made_at_once(tmp_path: Path) -> None:
    generator = Generator(Bundle.load(make_bundle(tmp_path / "bundle")))
    parts = list(generator.batches(3, 600, seed=5))
    assert len(parts) > 1
    np.testing.assert_array_equal(np.concatenate(parts), generator.generate(3, 600, seed=5))


def test_the_parts_of_a_category_are_numbered_on_and_not_held(tmp_path: Path) -> None:
    manifest = Bundle.load(make_bundle(tmp_path / "bundle")).manifest
    part = Pictures(3, np.zeros((100, *manifest.image.shape), np.float32), [{"first": "=1+1"}] * 100)
    tracemalloc.start()
    assert pictures.write_pictures((part for _ in range(10)), manifest, tmp_path / "made") == 1000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * part.images.nbytes
    rows = list(csv.DictReader((tmp_path / "made" / "index.csv").read_text().splitlines()))
    assert [row["path"] for row in rows] == [f"3/{number:06d}.png" for number in range(1000)]
    assert all((tmp_path / "made" / row["path"]).is_file() for row in rows)
    assert {row["first"] for row in rows} == {"'=1+1"}
