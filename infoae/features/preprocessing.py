"""How the pictures are prepared that an encoder was trained on: what its file, or one beside it, states.

The first of these that is there counts:

- `infoae.preprocessing` among the ONNX file's metadata_props: JSON as `{"size": 224, "mean": [0.485, 0.456, 0.406],
  "std": [0.229, 0.224, 0.225]}`, of pixels in [0, 1];
- `preprocessor_config.json` beside the file, as Hugging Face's image processors write it;
- `config.json` beside the file, as timm writes it;
- else the mean and deviation of ImageNet, which a Notice says.

Nothing is cropped: infoae resizes the whole picture, bilinearly, whatever filter is stated (`infoae.data.decode`).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infoae.errors import InfoAEError, Notice, one_line
from infoae.limits import MAX_IMAGE_SIZE, MAX_YAML_CHARACTERS

METADATA_KEY = "infoae.preprocessing"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_Side = Annotated[int, Field(ge=1, le=int(MAX_IMAGE_SIZE))]
_Values = Annotated[tuple[float, ...], Field(min_length=1, max_length=3)]


class Preprocessing(BaseModel):
    """What becomes of a picture's pixels: (pixel / 255 - mean) / std, channel by channel."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    size: tuple[_Side, _Side] | _Side | None = None
    """Pixels: of a side, or height and width; None where nothing says so."""
    mean: _Values = (0.0,)
    std: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1, max_length=3)] = (1.0,)

    def height_and_width(self) -> tuple[int, int] | None:
        """Return both sides in pixels, None where nothing says so."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def of_channels(self, channels: int) -> tuple[list[float], list[float]]:
        """Return mean and std of each of `channels`; three values are averaged for one. Raises ValueError."""
        return _of_channels(self.mean, channels), _of_channels(self.std, channels)


def read(path: Path, metadata: Mapping[str, str], *, as_they_are: bool = False) -> Preprocessing:
    """Return what is stated of the ONNX file `path`, whose metadata_props are `metadata`.

    `as_they_are` is of a graph that prepares pixels itself: the size alone. Raises InfoAEError, naming where, for a
    statement that makes no sense.
    """
    found = _stated(path, metadata)
    if as_they_are:
        return Preprocessing(size=None if found is None else found.size)
    if found is None:
        warnings.warn(
            Notice(
                f"{path}: nothing states how its pictures are prepared: ImageNet's mean and deviation are taken "
                f"({METADATA_KEY} in the file's metadata, or preprocessor_config.json or config.json beside it, would)"
            ),
            stacklevel=2,
        )
        return Preprocessing(mean=IMAGENET_MEAN, std=IMAGENET_STD)
    return found


def _stated(path: Path, metadata: Mapping[str, str]) -> Preprocessing | None:
    if METADATA_KEY in metadata:
        return _parsed(metadata[METADATA_KEY], f"{METADATA_KEY} of {path}", dict)
    for name, make in (("preprocessor_config.json", _of_hugging_face), ("config.json", _of_timm)):
        beside = path.with_name(name)
        if beside.is_file():
            found = _parsed(_read(beside), str(beside), make)
            if found != Preprocessing():  # another kind of file of that name
                return found
    return None


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(MAX_YAML_CHARACTERS)
    except (OSError, UnicodeDecodeError) as error:
        raise InfoAEError(f"{path} cannot be read: {one_line(error)}") from None


def _parsed(text: str, origin: str, make: Any) -> Preprocessing:
    try:
        stated = json.loads(text)
        if not isinstance(stated, dict):
            raise TypeError("no JSON object")
        return Preprocessing.model_validate(make(stated))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InfoAEError(f"{origin} cannot be used: {where}: {first['msg']}") from None
    except (ValueError, TypeError, KeyError, ZeroDivisionError, RecursionError) as error:
        raise InfoAEError(f"{origin} cannot be used: {one_line(error)}") from None


def _of_hugging_face(stated: dict[str, Any]) -> dict[str, Any]:
    if not stated.keys() & {"image_mean", "image_std", "size", "crop_size"}:
        return {}
    cropped = stated.get("do_center_crop", "crop_size" in stated) and "crop_size" in stated
    # It computes (pixel * rescale_factor - mean) / std; the same of pixel / 255 has both divided by 255 of the factor.
    factor = 255 * (stated.get("rescale_factor", 1 / 255) if stated.get("do_rescale", True) else 1.0)
    normalises = stated.get("do_normalize", True)
    mean = stated.get("image_mean", IMAGENET_MEAN) if normalises else (0.0,)
    std = stated.get("image_std", IMAGENET_STD) if normalises else (1.0,)
    return {
        "size": _side(stated.get("crop_size" if cropped else "size")),
        "mean": [value / factor for value in _several(mean)],
        "std": [value / factor for value in _several(std)],
    }


def _side(stated: Any) -> Any:
    if not isinstance(stated, dict):
        return stated
    if "shortest_edge" in stated:
        return stated["shortest_edge"]
    return (stated["height"], stated["width"]) if "height" in stated else None


def _of_timm(stated: dict[str, Any]) -> dict[str, Any]:
    inner = stated.get("pretrained_cfg", stated)
    if not isinstance(inner, dict) or not inner.keys() & {"input_size", "mean", "std"}:
        return {}
    size = inner.get("input_size")
    return {
        "size": None if size is None else tuple(size)[-2:],
        "mean": _several(inner.get("mean", IMAGENET_MEAN)),
        "std": _several(inner.get("std", IMAGENET_STD)),
    }


def _several(values: Any) -> list[Any]:
    return list(values) if isinstance(values, list | tuple) else [values]


def _of_channels(values: tuple[float, ...], channels: int) -> list[float]:
    if len(values) in (1, channels):
        return [*values] * (channels // len(values))
    if channels == 1:
        return [sum(values) / len(values)]
    raise ValueError(f"{len(values)} values for {channels} channels")
