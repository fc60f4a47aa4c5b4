"""`FrozenEncoder`: features of pictures by an ONNX file, as it is; `GivenFeatures`: those that lie in a .npy file."""

from __future__ import annotations

import functools
import hashlib
import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray

from infoae.config.features import TORCHVISION, Features
from infoae.data import npy
from infoae.data.decode import resized
from infoae.data.image_spec import ImageSpec
from infoae.data.unreadable import UnreadableImageError, unreadable
from infoae.errors import InfoAEError, Notice, UsageError, one_line
from infoae.features import graph, preprocessing
from infoae.files import user_cache
from infoae.gpu import Device
from infoae.limits import MAX_UNITS
from infoae.sessions import run_session, session_of

Array: TypeAlias = NDArray[np.float32]

BATCH = 32
"""Pictures that are computed at once."""


@dataclass(frozen=True)
class FrozenEncoder:
    """An ONNX file that makes features of pictures, with all that comes before and after it."""

    name: str
    """As a person gave it."""
    model: onnx.ModelProto
    """Pictures uint8 (N, C, H, W) -> features float32 (N, D)."""
    image: ImageSpec
    """What pictures are made before they go in."""
    dim: int
    """D."""
    digest: str
    batch: int | None
    """The number of images that the file takes, None for any."""
    _sessions: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def features(self, pictures: NDArray[np.uint8], device: str = Device.AUTO) -> Array:
        """Return the features float32 (N, D) of `pictures` uint8 (N, C, h, w) of any size, grey or RGB.

        Raises InfoAEError if any is not finite, or they cannot be computed on `device` (auto, cpu or cuda).
        """
        session = self._sessions.get(device)
        if session is None:
            session = self._sessions[device] = session_of(self.model.SerializeToString(), self.name, device)
        found = np.empty((len(pictures), self.dim), np.float32)
        size = self.batch or BATCH
        for start in range(0, len(pictures), size):
            part = resized(pictures[start : start + size], self.image)
            missing = self.batch - len(part) if self.batch else 0
            padded = np.concatenate([part, np.zeros((missing, *part.shape[1:]), np.uint8)]) if missing else part
            (values,) = run_session(session, [graph.FEATURES], {graph.PICTURES: padded}, size)
            found[start : start + size] = values[: len(part)]
        return checked_finite(found, self.name)


@dataclass(frozen=True)
class GivenFeatures:
    """Features that were computed elsewhere: a row for each picture, in the order in which infoae lists them."""

    name: str
    rows: Array
    """(N, D), on disk."""
    digest: str

    @property
    def dim(self) -> int:
        """D."""
        return int(self.rows.shape[1])


def opened(config: Features) -> FrozenEncoder | GivenFeatures:
    """Return the encoder of a configuration that has one; opened once a process. Raises InfoAEError.

    One of which `config` has another digest is refused: it is not the one that a run was trained with.
    """
    assert config.encoder is not None
    path = path_of(config.encoder)
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError as error:
        raise UsageError(f"features.encoder {config.encoder}: {_how_to_get(config.encoder, error)}") from None
    found = _opened(config.encoder, path, config.size, config.output, (status.st_mtime_ns, status.st_size))
    if config.digest not in (None, found.digest) or config.dim not in (None, found.dim):
        raise InfoAEError(
            f"features.encoder {config.encoder} is another than the one this run was trained with "
            f"(digest {found.digest[:8]}, not {str(config.digest)[:8]}): put that file back"
        )
    return found


def path_of(name: str) -> Path:
    """Return the file of an encoder: of one of torchvision, the ONNX file that was made of it."""
    if name.startswith(TORCHVISION):
        return user_cache("encoders") / f"{name.removeprefix(TORCHVISION)}.onnx"
    return Path(name).expanduser()


def checked_finite(values: Array, name: str) -> Array:
    """Return features (N, D). Raises InfoAEError if any is not finite."""
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(1))[0])
        raise InfoAEError(f"{name}: the features of image {row} are not finite: it cannot be trained on")
    return values


def check_varied(values: Array, name: str) -> None:
    """Raise InfoAEError if the features (N, D) of several images are all the same."""
    parts = (values[start : start + 4096] for start in range(0, len(values), 4096))
    if len(values) > 1 and all((part == values[0]).all() for part in parts):
        raise InfoAEError(f"{name}: the features of all {len(values):,} images are the same: they tell nothing apart")


def _how_to_get(name: str, error: OSError) -> str:
    if name.startswith(TORCHVISION):
        return f"not made yet on this machine: infoae train --features {name} does (--download fetches its weights)"
    return f"{one_line(error)}: give the encoder's file with --features"


@functools.lru_cache(4)
def _opened(
    name: str, path: Path, size: int | None, output: str | None, _state: tuple[int, int]
) -> FrozenEncoder | GivenFeatures:
    if path.suffix.lower() == ".npy":
        if size is not None or output is not None:
            raise UsageError(f"features.size and features.output are of an ONNX file, which {name} is not")
        return _given(name, path)
    if path.suffix.lower() != ".onnx":
        raise UsageError(f"features.encoder {name}: give an .onnx file, torchvision:NAME, or a .npy file of features")
    return _frozen(name, path, size, output)


def _given(name: str, path: Path) -> GivenFeatures:
    try:
        with unreadable():
            with path.open("rb") as file:
                shape, _, dtype = npy.read_header(file)
            if len(shape) != 2 or dtype.kind != "f" or not shape[0] or not 1 <= shape[1] <= MAX_UNITS:
                raise UnreadableImageError(f"{dtype} {shape}: floats (N, D) needed, a row for each image")
            rows = npy.mapped(path)
            digest = hashlib.blake2b(digest_size=16)
            for start in range(0, len(rows), 4096):
                digest.update(np.ascontiguousarray(rows[start : start + 4096]).data)
    except UnreadableImageError as error:
        raise InfoAEError(f"{name} cannot be used as features: {error}") from None
    for start in range(0, len(rows), 4096):
        checked_finite(rows[start : start + 4096], name)
    check_varied(rows, name)
    return GivenFeatures(name, rows, digest.hexdigest())


def _frozen(name: str, path: Path, size: int | None, output: str | None) -> FrozenEncoder:
    model = graph.read(path)
    of = graph.signature(model, path, output)
    metadata = {each.key: each.value for each in model.metadata_props}
    stated = preprocessing.read(path, metadata, as_they_are=of.input_type == onnx.TensorProto.UINT8)
    image = _image(name, of, stated, size)
    open_model, batch = graph.with_open_batch(model), None
    answered = _answer(open_model, of, image, 2, name)
    if answered is None or (answered[:1] != (2,) and of.batch is not None):  # the number of images is in its nodes
        batch = of.batch
        answered = _answer(model, of, image, of.batch or 2, name)
    if answered is None or answered[:1] != (batch or 2,):
        rows = "nothing" if not answered else f"{answered[0]} rows"
        raise InfoAEError(f"{name}: output {of.output} gives {rows} for {batch or 2} images: a row each is needed")
    if len(answered) not in (2, 3, 4):
        raise InfoAEError(
            f"{name}: output {of.output} is {answered}: features are (N, D), (N, tokens, D) or (N, D, h, w)"
        )
    if len(answered) == 3:
        warnings.warn(Notice(f"{name}: of {answered[1]} tokens an image, the first is its features"), stacklevel=2)
    try:
        built = graph.from_pictures(open_model if batch is None else model, of, image.shape, stated, answered, batch)
    except ValueError as error:
        raise InfoAEError(f"{name}: mean and std have {one_line(error)}") from None
    digest = hashlib.blake2b(built.SerializeToString(deterministic=True), digest_size=16).hexdigest()
    found = FrozenEncoder(name, built, image, graph.dim_of(answered), digest, batch)
    _probe(found)
    return found


def _image(name: str, of: graph.Signature, stated: preprocessing.Preprocessing, size: int | None) -> ImageSpec:
    """Return what pictures are made: of the size that the file has, else that a person says, else that is stated."""
    known = None if size is None else (size, size)
    for fixed, wanted in zip((of.height, of.width), known or (None, None), strict=True):
        if fixed is not None and wanted not in (None, fixed):
            raise UsageError(f"features.size {size}: {name} takes images of {of.height} x {of.width} pixels alone")
    height, width = known or stated.height_and_width() or (None, None)
    height, width = of.height or height, of.width or width
    if height is None or width is None:
        raise UsageError(f"{name} takes images of any size and states none: say with features.size how many pixels")
    return ImageSpec.model_validate({"channels": of.channels, "height": height, "width": width})


def _answer(
    model: onnx.ModelProto, of: graph.Signature, image: ImageSpec, count: int, name: str
) -> tuple[int, ...] | None:
    """Return the shape of what a graph answers for `count` black images, None if it does not take so many."""
    kind = np.uint8 if of.input_type == onnx.TensorProto.UINT8 else np.float32
    session = session_of(model.SerializeToString(), name, Device.CPU)
    try:
        (values,) = session.run([of.output], {of.input: np.zeros((count, *image.shape), kind)})
    except Exception as error:  # onnxruntime's exceptions share no base of their own
        if of.batch is None or count == of.batch:
            raise InfoAEError(f"{name} cannot compute images {image.shape}: {one_line(error)}") from None
        return None
    if getattr(values, "dtype", None) != np.float32:
        kinds = getattr(values, "dtype", type(values).__name__)
        raise InfoAEError(f"{name}: output {of.output} is {kinds}: features are float32")
    return tuple(values.shape)


def _probe(found: FrozenEncoder) -> None:
    """See on noise that there are features, and that they differ. Raises InfoAEError."""
    noise = np.random.default_rng(0).integers(0, 256, (2, *found.image.shape), np.uint8)
    check_varied(found.features(noise, Device.CPU), found.name)
