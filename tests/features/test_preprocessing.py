"""How pictures are prepared: as the file states, as the file beside it states, or as for ImageNet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infoae.errors import InfoAEError, Notice
from infoae.features import preprocessing
from infoae.features.preprocessing import IMAGENET_MEAN, IMAGENET_STD

HUGGING_FACE = "preprocessor_config.json"


def read(folder: Path, name: str, content: Any) -> preprocessing.Preprocessing:
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return preprocessing.read(folder / "model.onnx", {})


@pytest.mark.parametrize(
    ("stated", "size"),
    [
        ({"size": 224}, (224, 224)),
        ({"size": {"height": 200, "width": 180}}, (200, 180)),
        ({"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}, (224, 224)),
        ({"size": {"shortest_edge": 256}, "crop_size": 224, "do_center_crop": False}, (256, 256)),
        ({"crop_size": 160}, (160, 160)),
    ],
)
def test_sizes_that_hugging_face_states(stated: Any, size: tuple[int, int], tmp_path: Path) -> None:
    assert read(tmp_path, HUGGING_FACE, stated).height_and_width() == size


@pytest.mark.parametrize("factor", [1 / 255, 1 / 127.5, 1.0])
def test_hugging_faces_rescaling_comes_out_the_same(factor: float, tmp_path: Path) -> None:
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
    stated = {"size": 8, "image_mean": mean, "image_std": std, "rescale_factor": factor}
    found = read(tmp_path, HUGGING_FACE, stated)
    pixels = np.arange(256)[:, None]
    ours = (pixels / 255 - found.mean) / found.std
    np.testing.assert_allclose(ours, (pixels * factor - mean) / std)


def test_without_normalisation_pixels_are_only_scaled(tmp_path: Path) -> None:
    found = read(tmp_path, HUGGING_FACE, {"size": 8, "do_normalize": False, "image_mean": [0.5] * 3})
    assert found.of_channels(3) == ([0.0] * 3, [1.0] * 3)


@pytest.mark.parametrize("nested", [True, False])
def test_timm(nested: bool, tmp_path: Path) -> None:
    inner = {"input_size": [3, 240, 240], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic"}
    found = read(tmp_path, "config.json", {"architecture": "vit", "pretrained_cfg": inner} if nested else inner)
    assert found.height_and_width() == (240, 240)
    assert found.of_channels(1) == ([0.5], [0.5])


def test_what_the_file_itself_states_counts_first(tmp_path: Path) -> None:
    read(tmp_path, HUGGING_FACE, {"size": 224})
    metadata = {"infoae.preprocessing": '{"size": 96, "mean": [0.1], "std": [0.2]}'}
    found = preprocessing.read(tmp_path / "model.onnx", metadata)
    assert (found.size, found.of_channels(3)) == (96, ([0.1] * 3, [0.2] * 3))


def test_where_nothing_is_stated_it_is_imagenet_and_said(tmp_path: Path) -> None:
    with pytest.warns(Notice, match="ImageNet's mean and deviation are taken"):
        found = read(tmp_path, "config.json", {"model_type": "vit"})
    assert (found.mean, found.std, found.size) == (IMAGENET_MEAN, IMAGENET_STD, None)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (HUGGING_FACE, "{", "cannot be used: Expecting property name"),
        (HUGGING_FACE, "[1]", "no JSON object"),
        (HUGGING_FACE, {"size": -3}, "cannot be used: size"),
        (HUGGING_FACE, {"size": 8, "image_std": [0, 0, 0]}, "cannot be used: std"),
        ("config.json", {"input_size": 3}, "cannot be used"),
        ("config.json", {"input_size": [3, 8, 8], "mean": "none"}, "cannot be used: mean"),
    ],
)
def test_what_makes_no_sense_is_refused_by_the_name_of_its_file(
    name: str, content: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InfoAEError, match=f"{name}.*{message}"):
        read(tmp_path, name, content)
