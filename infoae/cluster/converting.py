"""Pictures decoded on all nodes of the connected Ray cluster, which see their files; in order, as on one machine.

Nodes send pixels to the process that converts. What a node that dies had not sent yet is done again elsewhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray

from infoae.cluster import connect, placement
from infoae.data.decode import DecodeOptions
from infoae.data.image_spec import ImageSpec
from infoae.errors import InfoAEError, UnavailableError, machine_errors, one_line
from infoae.inputs.blocks import Source
from infoae.inputs.convert import Decoder, Pixels, block_size, decoded_as
from infoae.inputs.decoding import Decoded
from infoae.inputs.parts import Part, absolute, blocks_of, parts_of

NUM_FILES = 512
"""Single files are decoded by so many a task."""
RETRIES = 3  # of a task that is lost
AHEAD = 2  # tasks a CPU that Ray is given at once
WAITING = 4  # blocks of a task that may wait for those before


def on_nodes(log: Path) -> Decoder:
    """Return what decodes on the nodes that classify, a CPU a task; what Ray prints meanwhile goes to `log`.

    Raises InfoAEError naming the node where a part cannot be read, UnavailableError if one is lost again and again.
    """
    return partial(_on_nodes, log)


def _on_nodes(
    log: Path, sources: Sequence[Source], seen: Sequence[ImageSpec], image: ImageSpec, options: DecodeOptions
) -> Generator[tuple[int, Decoded, Pixels]]:
    with connect.quiet(log):
        where = placement.classifiers("cpu")
        task: Any = ray.remote(num_returns="streaming", max_retries=RETRIES)(_decoded).options(
            num_cpus=1,
            scheduling_strategy="SPREAD",
            label_selector=where.label,
            name="infoae convert",
            _generator_backpressure_num_objects=WAITING,
        )
        running: deque[tuple[int, Any]] = deque()
        for number, source in enumerate(sources):
            for part in parts_of([source], NUM_FILES):
                running.append((number, task.remote(absolute(part), seen[number], image, options)))
                if len(running) >= AHEAD * where.cpus:
                    yield from _results(*running.popleft(), log)
        while running:
            yield from _results(*running.popleft(), log)


def _results(number: int, blocks: Any, log: Path) -> Generator[tuple[int, Decoded, Pixels]]:
    try:
        for block in blocks:
            decoded, pixels = ray.get(block)
            yield number, decoded, pixels
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, InfoAEError) else error  # noqa: B904  it says all
    except ray.exceptions.RayError as error:
        raise UnavailableError(
            f"a part of the inputs was lost {RETRIES + 1} times ({one_line(error, first=True)}): see {log}"
        ) from None


def _decoded(part: Part, seen: ImageSpec, image: ImageSpec, options: DecodeOptions) -> Iterator[tuple[Decoded, Pixels]]:
    """Decode a part, as a process of Ray's on any node."""
    try:
        with machine_errors():
            for block in blocks_of(part, block_size(seen)):
                yield decoded_as(seen, image, options, block)
    except InfoAEError as error:
        address = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        raise type(error)(f"node {address}: {error}") from None
