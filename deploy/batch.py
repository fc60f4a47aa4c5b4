"""The pipeline on one machine: read, decode and classify blocks in threads, write; in order, in bounded memory."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from infoae.cpus import available_cpus
from infoae.data.decode import DEFAULTS, DecodeOptions
from infoae.deploy import drift
from infoae.deploy.classifier import BATCH_SIZE, Classifier
from infoae.deploy.drift import Drift
from infoae.deploy.reference import Counts
from infoae.deploy.rows import RowFormat
from infoae.deploy.sinks import KeyDigest, Part, Sink
from infoae.errors import InfoAEError
from infoae.inputs.blocks import Block, Source
from infoae.inputs.decoding import Decoded, check_any, decode, largest, ordered_map, read_blocks


@dataclass(frozen=True)
class Summary:
    """What a job did: rows written in all, those with an error, those that an earlier attempt had done, seconds.

    `passed_over` counts the files that were no inputs, by reason; `peak` is the largest value of 16-bit grey images,
    None if this attempt had none. `drift` is how far the readable images are from those that the bundle knows, None if
    it knows none.
    """

    num_rows: int
    num_failed: int
    num_resumed: int
    seconds: float
    passed_over: Counter[str] = field(default_factory=Counter)
    peak: int | None = None
    drift: Drift | None = None

    @property
    def images_per_second(self) -> float:
        """The rate of this attempt, start-up left out."""
        return (self.num_rows - self.num_resumed) / self.seconds if self.seconds else 0.0


def classify_sources(
    sources: Sequence[Source],
    classifier: Classifier,
    rows: RowFormat,
    sink: Sink,
    *,
    parts: Sequence[Part] = (),
    max_errors: int | None = None,
    block_size: int = BATCH_SIZE,
    num_workers: int | None = None,
    options: DecodeOptions = DEFAULTS,
    advance: Callable[[int], object] = lambda _: None,
) -> Summary:
    """Write one row to `sink` for each input of `sources`, in order, after those that `parts` already hold.

    `num_workers` threads take a block each from pixels to rows, by default one for each CPU this process may use: the
    CPUs share blocks, not operators, so `classifier` is best opened with one thread. `options` are for decoding;
    `advance` is told of rows done.

    Raises InfoAEError if there is no input at all, if more than `max_errors` inputs are unreadable, or if the inputs
    that `parts` hold are not the first ones now.
    """
    pa.array([])  # the first makes pyarrow import pandas, if it is there: a fifth of a second of start, not of rate
    start = time.monotonic()
    num_rows = num_resumed = sum(part.num_rows for part in parts)
    num_failed = sum(part.num_failed for part in parts)
    seen = sum((part.seen for part in parts), Counts())
    check_errors(num_failed, num_rows, max_errors)
    passed_over: Counter[str] = Counter()
    peak: int | None = None
    options = classifier.manifest.decoding(options)
    blocks = after_parts(read_blocks(sources, block_size), parts)

    def answered(block: Block) -> tuple[Decoded, pa.RecordBatch, Counts]:
        decoded = decode(block, classifier.manifest.image, options)
        answers = classifier.classify(decoded.images)
        return decoded, rows.batch(decoded.keys, answers, decoded.errors), drift.counted(classifier.manifest, answers)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of oddities in files; what cannot be read is a row with an error
        for decoded, batch, counts in ordered_map(answered, blocks, num_workers or available_cpus()):
            passed_over += decoded.passed_over
            peak = largest(peak, decoded.peak)
            if not decoded.keys:
                continue
            failed = len(decoded.keys) - len(decoded.images)
            sink.write(batch, decoded.keys, failed, counts)
            num_rows += len(decoded.keys)
            num_failed += failed
            seen += counts
            advance(len(decoded.keys))
            check_errors(num_failed, num_rows, max_errors)
    check_any(num_rows, passed_over)
    seconds = time.monotonic() - start
    far = drift.measured(classifier.manifest, seen)
    return Summary(num_rows, num_failed, num_resumed, seconds, passed_over, peak, far)


def check_errors(num_failed: int, num_rows: int, max_errors: int | None) -> None:
    """Raise InfoAEError if more than `max_errors` of `num_rows` inputs have failed; None allows any number."""
    if max_errors is not None and num_failed > max_errors:
        raise InfoAEError(f"{num_failed} of {num_rows} inputs are unreadable, more than {max_errors}; stopped")


def after_parts(blocks: Iterator[Block], parts: Sequence[Part]) -> Iterator[Block]:
    """Leave out the inputs that `parts` hold. Raises InfoAEError if they are not the first of `blocks`."""
    rest: Block | None = None
    for number, part in enumerate(parts):
        digest, missing = KeyDigest(), part.num_rows
        while missing:
            block = next(blocks, None) if rest is None else rest
            if block is None:
                break
            if block.passed_over:
                yield Block([], [], block.passed_over)
            digest.update(block.keys[:missing])
            rest = block[missing:] if len(block) > missing else None
            missing -= min(missing, len(block))
        if digest.hexdigest() != part.digest:
            first = sum(earlier.num_rows for earlier in parts[:number])
            raise InfoAEError(
                f"the inputs are not those of the interrupted job: they differ among rows {first} to "
                f"{first + part.num_rows - 1}; restore them, or delete {part.file.parent} to start again"
            )
    if rest is not None:
        yield rest
    yield from blocks
