"""The pipeline: order, errors, resuming, bounded memory."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from infoae.deploy.batch import after_parts, classify_sources
from infoae.deploy.classifier import Classifier
from infoae.deploy.reference import Counts
from infoae.deploy.rows import RowFormat
from infoae.deploy.sinks import KeyDigest, Part
from infoae.errors import InfoAEError
from infoae.inputs.blocks import Block
from infoae.inputs.decoding import ordered_map, read_ahead
from infoae.inputs.sources import open_sources
from tests.helpers.bundles import make_bundle


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return Classifier(make_bundle(tmp_path_factory.mktemp("model") / "bundle"), "cpu")


class Rows:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.batches: list[pa.RecordBatch] = []
        self.num_failed = 0

    def write(self, rows: pa.RecordBatch, keys: Sequence[str], num_failed: int, seen: Counts) -> None:
        assert seen == Counts()  # of a bundle that has no reference
        assert rows.column("path").to_pylist() == keys
        self.batches.append(rows)
        self.num_failed += num_failed

    def column(self, name: str) -> list[object]:
        values: list[object] = pa.Table.from_batches(self.batches).column(name).to_pylist()
        return values


def test_one_row_for_each_input_in_order(tmp_path: Path, classifier: Classifier) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2000, 28, 28), np.uint8)
    damaged = set(range(0, 2000, 17))
    for index in range(2000):
        path = tmp_path / f"{index:04d}.png"
        Image.fromarray(pixels[index]).save(path)
        if index in damaged:
            path.write_bytes(path.read_bytes()[: index % 100])
    rows, sink, told = RowFormat.parse(classifier.manifest, None, latent=True), Rows(), []
    sources = open_sources([str(tmp_path)], classifier.manifest.image)
    summary = classify_sources(
        sources, classifier, rows, sink, block_size=64, num_workers=4, advance=lambda count: told.append(count)
    )
    assert (summary.num_rows, summary.num_failed, sum(told)) == (2000, len(damaged), 2000)
    assert sink.column("path") == [f"{tmp_path}/{index:04d}.png" for index in range(2000)]
    labels = classifier.classify(pixels).labels.tolist()
    assert sink.column("label") == [None if index in damaged else labels[index] for index in range(2000)]
    assert {index for index, error in enumerate(sink.column("error")) if error} == damaged
    assert sink.num_failed == len(damaged)


def test_max_errors_stops(tmp_path: Path, classifier: Classifier) -> None:
    for index in range(20):
        (tmp_path / f"{index:02d}.png").touch()
    rows, sources = (
        RowFormat.parse(classifier.manifest, None, latent=False),
        open_sources([str(tmp_path)], classifier.manifest.image),
    )
    assert classify_sources(sources, classifier, rows, Rows(), max_errors=20).num_failed == 20
    sink = Rows()
    with pytest.raises(InfoAEError, match="6 of 6 inputs are unreadable, more than 4; stopped"):
        classify_sources(sources, classifier, rows, sink, max_errors=4, block_size=3)
    assert len(sink.column("path")) == 6


def test_max_errors_stops_before_anything_is_done_again(tmp_path: Path, classifier: Classifier) -> None:
    (tmp_path / "1.png").write_bytes(b"")
    key = f"{tmp_path}/1.png"
    rows, sources = (
        RowFormat.parse(classifier.manifest, None, latent=False),
        open_sources([str(tmp_path)], classifier.manifest.image),
    )
    done = [dataclasses.replace(part([key]), num_failed=1)]
    assert classify_sources(sources, classifier, rows, Rows(), parts=done, max_errors=1).num_resumed == 1
    with pytest.raises(InfoAEError, match="1 of 1 inputs are unreadable, more than 0; stopped"):
        classify_sources(sources, classifier, rows, Rows(), parts=done, max_errors=0)


def test_an_empty_folder(tmp_path: Path, classifier: Classifier) -> None:
    rows = RowFormat.parse(classifier.manifest, None, latent=False)
    with pytest.raises(InfoAEError, match="hold no images"):
        classify_sources(open_sources([str(tmp_path)], classifier.manifest.image), classifier, rows, Rows())


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(1, 4))
def test_ordered_map_keeps_order(delays: list[int], num_workers: int) -> None:
    def slow(item: tuple[int, int]) -> int:
        time.sleep(item[1] / 10_000)
        return item[0]

    assert list(ordered_map(slow, enumerate(delays), num_workers)) == list(range(len(delays)))


def test_nothing_runs_far_ahead_and_every_thread_ends() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    threads = threading.active_count()
    results = ordered_map(lambda number: number, read_ahead(items()), 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert len(taken) <= 3 + 4 + 3
    results.close()
    del results
    assert threading.active_count() == threads


def test_an_error_in_any_stage_comes_out() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise InfoAEError("source")

    with pytest.raises(InfoAEError, match="source"):
        list(ordered_map(lambda number: number, read_ahead(broken()), 2))

    def fail(_: int) -> int:
        raise InfoAEError("decode")

    with pytest.raises(InfoAEError, match="decode"):
        list(ordered_map(fail, [1, 2, 3], 2))


def cut(keys: list[str], size: int) -> Iterator[Block]:
    for start in range(0, len(keys), size):
        part = keys[start : start + size]
        yield Block(part, [key.encode() for key in part])


def part(keys: list[str]) -> Part:
    digest = KeyDigest()
    digest.update(keys)
    return Part(Path("folder/part"), len(keys), 0, digest.hexdigest())


@given(st.lists(st.text(max_size=3), max_size=40), st.data(), st.integers(1, 9))
def test_what_parts_hold_is_left_out_however_it_is_cut(keys: list[str], data: st.DataObject, size: int) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(keys)), max_size=4)))
    parts = [part(keys[start:stop]) for start, stop in zip([0, *cuts], cuts, strict=False) if start < stop]
    done = cuts[-1] if cuts else 0
    blocks = list(after_parts(cut(keys, size), parts))
    assert [key for block in blocks for key in block.keys] == keys[done:]
    assert [image for block in blocks for image in block.images] == [key.encode() for key in keys[done:]]


@pytest.mark.parametrize("now", [["a", "x", "c", "d"], ["b", "a", "c"], ["a"], [], ["a", "b", "new", "c"]])
def test_other_inputs_than_before_are_noticed(now: list[str]) -> None:
    parts = [part(["a", "b"]), part(["c"])]
    with pytest.raises(InfoAEError, match="the inputs are not those of the interrupted job"):
        list(after_parts(cut(now, 2), parts))
