"""`infoae convert`: from the names of inputs to a folder of shards to train on, in memory that images do not fill."""

from __future__ import annotations

import math
import time
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from infoae.cpus import available_cpus
from infoae.data import reduced_jpeg, sound
from infoae.data.decode import DEFAULTS, DecodeOptions, resized
from infoae.data.external_shuffle import Buckets, row_type
from infoae.data.image_spec import ImageSpec
from infoae.data.shard_writer import write_classes, write_split
from infoae.errors import InfoAEError, one_line
from infoae.files import atomic_folder
from infoae.inputs.arrays import ArrayFile
from infoae.inputs.blocks import Block, Source
from infoae.inputs.classes import ClassOf
from infoae.inputs.classes import rules as class_rules
from infoae.inputs.decoding import Decoded, check_any, decode, largest, ordered_map, read_blocks
from infoae.inputs.stored import open_inputs
from infoae.reporting.images import progress

BLOCK_IMAGES = 64
BLOCK_BYTES = 4 * 1024 * 1024
"""A thread decodes at most so many images and bytes at a time: seconds of large photographs, which Ctrl-C waits for."""
REASONS = 5

Pixels: TypeAlias = NDArray[np.uint8]
Decoder: TypeAlias = Callable[
    [Sequence[Source], Sequence[ImageSpec], ImageSpec, DecodeOptions], Generator[tuple[int, Decoded, Pixels]]
]
"""Yields all blocks of sources in order: the number of its source, pictures decoded as that source's spec says, and
what they are as another spec, (M, C, H, W)."""


class Featurer(Protocol):
    """What gives features of pictures while they are converted."""

    dim: int
    """D."""
    image: ImageSpec | None
    """What pictures are to be decoded as for it, None where it does not look at them."""

    def of(self, pictures: NDArray[np.uint8], numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return features (M, D) of `pictures` (M, C, H, W), which are the inputs of these `numbers`. InfoAEError."""

    def check_all(self, num_inputs: int) -> None:
        """Raise InfoAEError if the features of so many inputs cannot be trained on."""


@dataclass
class Converted:
    """What was written, and what was skipped: how many inputs, and `reasons` for the first REASONS of them.

    `passed_over` counts the files that were no inputs, by reason; `peak` is the largest value of 16-bit grey images;
    `num_sounds` of the images were made from sound: all or none.
    """

    num_train: int = 0
    num_test: int = 0
    num_classes: int | None = None
    num_failed: int = 0
    reasons: list[str] = field(default_factory=list)
    seconds: float = 0.0
    passed_over: Counter[str] = field(default_factory=Counter)
    peak: int | None = None
    num_sounds: int = 0


def convert_files(
    inputs: Sequence[str],
    out: Path,
    image: ImageSpec,
    *,
    test_share: float = 0.1,
    seed: int = 0,
    labels: str | None = None,
    column: str | None = None,
    max_errors: int | None = None,
    null: bool = False,
    options: DecodeOptions = DEFAULTS,
    features: Featurer | None = None,
    decoder: Decoder | None = None,
) -> Converted:
    """Write all `inputs`, as `image` says, to shards in the new folder `out`, which appears when it is whole.

    The arguments are the options of `infoae convert`; the same ones and the same inputs give the same bytes, whoever
    decodes, by default the CPUs of this machine. With `features`, those of each picture are written, too. Raises
    InfoAEError for anything wrong outside.
    """
    start = time.monotonic()
    target = _vacant(out)
    sources = open_inputs(inputs, image, column=column, null=null)
    rules = class_rules(labels, sources)
    counts = [source.count() for source in sources]
    total = None if None in counts else sum(filter(None, counts))
    names: dict[str, int] = {}  # of classes, numbered as they come
    try:
        with atomic_folder(target) as folder:
            kind = row_type(image.shape, None if features is None else features.dim)
            buckets = Buckets(folder / "buckets", kind, np.random.default_rng(seed))
            with buckets, progress("convert", total) as advance, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow warns of oddities in files; what is unreadable is told as such
                seen = [
                    image if features is None or isinstance(source, ArrayFile) else features.image or image
                    for source in sources
                ]
                with closing((decoder or decoded_here)(sources, seen, image, options)) as blocks:
                    done = _gather(blocks, rules, buckets, names, max_errors, advance, features)
            with progress("shuffle", buckets.num_rows) as advance:
                classes = write_split(folder, buckets, test_share, advance)
            if options.reduced_jpeg:
                reduced_jpeg.describe(folder)
            if done.num_sounds:
                sound.describe(folder)
            if labels is not None:
                write_classes(folder, classes, names)
                done.num_classes = len(names)
    except OSError as error:  # of the output: an input that cannot be read is one of those that failed
        raise InfoAEError(f"cannot write {out}: {one_line(error)}") from error
    done.num_test, done.num_train = len(classes), buckets.num_rows - len(classes)
    done.seconds = time.monotonic() - start
    return done


def _gather(
    blocks: Iterable[tuple[int, Decoded, Pixels]],
    rules: Sequence[ClassOf | None],
    buckets: Buckets,
    names: dict[str, int],
    max_errors: int | None,
    advance: Callable[[int], object],
    features: Featurer | None,
) -> Converted:
    """Put every readable input into `buckets`, numbering its class in `names` by the rule of its source."""
    done, num_inputs = Converted(), 0
    for source, block, pixels in blocks:
        rows = np.zeros(len(block.images), buckets.kind)
        rows["pixels"] = pixels
        if features is not None:
            readable = np.flatnonzero([error is None for error in block.errors])
            rows["features"] = features.of(block.images, num_inputs + readable)
        class_of = rules[source]
        if class_of:
            keys = (key for key, error in zip(block.keys, block.errors, strict=True) if error is None)
            rows["class"] = [names.setdefault(class_of(key), len(names)) for key in keys]
        buckets.add(rows)
        num_inputs += len(block.keys)
        done.passed_over += block.passed_over
        done.peak = largest(done.peak, block.peak)
        done.num_sounds += block.num_sounds
        if 0 < done.num_sounds < buckets.num_rows:
            raise InfoAEError("the inputs hold both sounds and pictures: give those of one kind")
        for key, error in zip(block.keys, block.errors, strict=True):
            if error is not None:
                done.num_failed += 1
                done.reasons += [f"{key}: {error}"] if len(done.reasons) < REASONS else []
        advance(len(block.keys))
        if max_errors is not None and done.num_failed > max_errors:
            raise InfoAEError(
                f"{done.num_failed} of {num_inputs} inputs are unreadable, more than {max_errors}; "
                f"the first: {done.reasons[0]}"
            )
    check_any(num_inputs, done.passed_over)
    if features is not None:
        features.check_all(num_inputs)
    if buckets.num_rows < 2 and done.num_failed:  # or the reason why there are so few would not be told
        raise InfoAEError(
            f"{buckets.num_rows or 'not one'} of {num_inputs} inputs is readable, at least 2 are needed: one to train "
            f"on and one for tests; the first that is not: {done.reasons[0]}"
        )
    return done


def decoded_here(
    sources: Sequence[Source], seen: Sequence[ImageSpec], image: ImageSpec, options: DecodeOptions
) -> Generator[tuple[int, Decoded, Pixels]]:
    """Decode on the CPUs of this machine; see Decoder."""
    for number, (source, spec) in enumerate(zip(sources, seen, strict=True)):
        decode_block = partial(decoded_as, spec, image, options)
        blocks = read_blocks([source], block_size(spec))
        with closing(ordered_map(decode_block, blocks, available_cpus())) as decoded:
            for block, pixels in decoded:
                yield number, block, pixels


def decoded_as(seen: ImageSpec, image: ImageSpec, options: DecodeOptions, block: Block) -> tuple[Decoded, Pixels]:
    """Return pictures decoded as `seen`, and what they are as `image`."""
    found = decode(block, seen, options)
    return found, resized(found.images, image)


def block_size(seen: ImageSpec) -> int:
    """Return how many pictures are decoded at a time."""
    return max(1, min(BLOCK_IMAGES, BLOCK_BYTES // math.prod(seen.shape)))


def _vacant(out: Path) -> Path:
    """Return where `out` really lies. Raises InfoAEError unless a new folder can take its place."""
    target = out.resolve()
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise InfoAEError(f"{out} exists already and is not an empty folder: delete it, or give another --out")
    except OSError as error:
        raise InfoAEError(f"cannot write {out}: {one_line(error)}") from error
    if target.is_mount():
        raise InfoAEError(f"{out} is a mount point, which a finished folder cannot replace: give a folder inside it")
    return target
