"""The pictures that corrections speak of, found by the names that the gallery gives them."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoae.data.decode import DecodeOptions, read_image
from infoae.data.image_spec import ImageSpec
from infoae.data.selection import container_kind
from infoae.data.unreadable import UnreadableImageError
from infoae.errors import InfoAEError, UsageError, shown
from infoae.inputs.blocks import Encoded, key_of
from infoae.inputs.sources import open_sources
from infoae.loading import load_tests
from infoae.model import InfoAE
from infoae.runs.run import Run

CHUNK = 256
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")


def inputs_named(
    names: Sequence[str], run: Run, model: InfoAE, folder: Path, column: str | None, data_root: Path | None
) -> NDArray[Any]:
    """Return what `model` encodes of the pictures called `names`: uint8 (N, C, H, W), or features float32 (N, D).

    A name is the path of a file, that of a container with `#` and what is in it, or `DATA#ROW`, a test image of the
    run. Paths start from `folder`; `column` is that of tables. Raises InfoAEError for a picture that cannot be read.
    """
    found: dict[str, NDArray[Any]] = {}
    config = run.config().data
    options = DecodeOptions(reduced_jpeg=bool(config.reduced_jpeg))
    test_image = re.compile(rf"{re.escape(config.name)}#([0-9]{{1,18}})")
    rows = {name: int(match[1]) for name in names if (match := test_image.fullmatch(name))}
    if rows:
        found |= _test_images(rows, run, model, data_root)
    elsewhere = [name for name in names if name not in found]
    if elsewhere and not model.encodes_images:
        raise UsageError(
            f"the corrections speak of {shown(elsewhere[0])}, and {run.name} has no encoder for other pictures than "
            "those it was trained on: take it out of them"
        )
    members: dict[Path, dict[str, str]] = defaultdict(dict)
    for name in elsewhere:
        if held := _container_of(folder, name):
            members[held[0]][held[1]] = name
        else:
            found[name] = _pixels(name, _on_disk(folder, name), model.seen_shape, options)
    for path, wanted in members.items():
        at = config.column if column is None else column
        found |= _members(path, wanted, model.seen_shape, at, options)
    return np.stack([found[name] for name in names])


def _test_images(rows: Mapping[str, int], run: Run, model: InfoAE, data_root: Path | None) -> dict[str, NDArray[Any]]:
    tests = load_tests(run, data_root)
    for name, row in rows.items():
        if row >= len(tests):
            raise _lost(name, f"there are {len(tests):,} test images")
    inputs = tests.images if model.encodes_images else tests.inputs
    return {name: inputs[row] for name, row in rows.items()}


def _container_of(folder: Path, name: str) -> tuple[Path, str] | None:
    """Return the container that a name is of, and which picture in it; None for a file of its own."""
    if os.path.isfile(_on_disk(folder, name)):  # noqa: PTH113 (no path at all raises nothing)
        return None
    for mark in re.finditer("#", name):
        path = _on_disk(folder, name[: mark.start()])
        if container_kind(path.name) not in (None, "list") and os.path.isfile(path):  # noqa: PTH113
            return path, name[mark.end() :]
    return None


def _on_disk(folder: Path, name: str) -> Path:
    r"""Return the path that is shown as `name`, in which a byte that is not UTF-8 is written as \xNN."""
    if os.path.lexists(folder / name):
        return folder / name
    return folder / os.fsdecode(_ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), os.fsencode(name)))


def _members(
    path: Path, wanted: Mapping[str, str], shape: tuple[int, int, int], column: str | None, options: DecodeOptions
) -> dict[str, NDArray[np.uint8]]:
    """Return the pictures of a container, `wanted` being from what they are called there to their whole names."""
    channels, height, width = shape
    image = ImageSpec(channels=1 if channels == 1 else 3, height=height, width=width)
    (source,) = open_sources([str(path)], image, column=column)
    container, reason = key_of(str(path)), "it is not in there"
    found: dict[str, NDArray[np.uint8]] = {}
    for block in source.blocks(CHUNK):
        for key, encoded in zip(block.keys, block.images, strict=True):
            name = wanted.get(key.removeprefix(f"{container}#"))
            if name is not None and name not in found:
                found[name] = _pixels(name, encoded, shape, options)
            elif key == container and isinstance(encoded, UnreadableImageError):
                reason = str(encoded)
        if len(found) == len(wanted):
            break
    for name in wanted.values():
        if name not in found:
            raise _lost(name, reason)
    return found


def _pixels(
    name: str, encoded: Encoded | NDArray[np.uint8], shape: tuple[int, int, int], options: DecodeOptions
) -> NDArray[np.uint8]:
    if isinstance(encoded, np.ndarray):
        return encoded
    try:
        if isinstance(encoded, UnreadableImageError):
            raise encoded
        return read_image(encoded, *shape, options)
    except (UnreadableImageError, OSError) as error:
        raise _lost(name, str(error)) from None


def _lost(name: str, reason: str) -> InfoAEError:
    return InfoAEError(
        f"the corrections speak of {shown(name)}, which cannot be read ({reason}): say with --pictures where it is, or "
        "take it out of them"
    )
