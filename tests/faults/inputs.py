"""Files that users give to commands, and what reads them there: pictures, archives, arrays, columns, lists, data."""

from __future__ import annotations

import csv
import functools
import io
import itertools
import lzma
import os
import shutil
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import torchvision.datasets  # noqa: F401  which takes seconds, and is imported where it is used

from infoae import planning
from infoae.config import Config, recipes
from infoae.data.image_spec import ImageSpec
from infoae.deploy import batch
from infoae.deploy.classifier import Classifier
from infoae.deploy.formats import FORMATS
from infoae.deploy.reference import Counts
from infoae.deploy.rows import RowFormat
from infoae.files import CACHE as FOLDER
from infoae.inputs import convert as converting
from infoae.inputs import decoding
from infoae.inputs.sources import open_sources
from infoae.methods.schedules import schedule_of
from infoae.reproduce import tables
from infoae.runs import images, names
from infoae.tune import space
from tests.faults import seeds
from tests.faults.readers import Kind
from tests.helpers.bundles import make_bundle
from tests.helpers.inputs import idx

IMAGE = ImageSpec(channels=1, height=seeds.SIDE, width=seeds.SIDE)
CACHE = "cache"
TORCHVISION = "torchvision/FashionMNIST/raw"


def prepare() -> None:
    """Make what the readers need beside the file that they read, in the folder that this process is in."""
    make_bundle(Path("bundle"), seeds.SHAPE)
    for name in ("a.png", "b c.png", "ö\n.png"):
        Path(name).write_bytes(seeds.pictures()["png"][0])
    for name in ("a/1.png", "a/2.png", "b/3.png"):
        Path("pictures", name).parent.mkdir(parents=True, exist_ok=True)
        Path("pictures", name).write_bytes(seeds.pictures()["png"][0])
    for split in ("train", "test"):
        Path("shards", split).mkdir(parents=True)
        np.save(Path("shards", split, "0.npy"), seeds.PIXELS)
    np.save("shards/test_labels.npy", np.arange(6))
    Path("usps").mkdir()
    Path("usps/usps.t.bz2").write_bytes(seeds.bz(seeds.usps()[0]))
    Path(TORCHVISION).mkdir(parents=True)
    for split in ("train", "t10k"):
        Path(TORCHVISION, f"{split}-images-idx3-ubyte").write_bytes(seeds.idx_arrays()[0])
        Path(TORCHVISION, f"{split}-labels-idx1-ubyte").write_bytes(idx(np.arange(6, dtype=np.uint8)))


class _Rows:
    """A sink that writes rows in every format, keeps their keys and reasons, and sees that they agree."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.reasons: list[str] = []

    def write(self, rows: pa.RecordBatch, keys: Sequence[str], num_failed: int, seen: Counts) -> None:
        reasons = rows.column("error").drop_null().to_pylist()
        assert len(rows) == len(keys), "another number of rows than of inputs"
        assert len(reasons) == num_failed == rows.column("label").null_count, "another number of reasons than of errors"
        for reason in reasons:
            assert "memory" not in reason, f"a size was believed: {reason}"
        self.keys += keys
        self.reasons += reasons
        for form in FORMATS.values():
            form.write(io.BytesIO(), [rows])


@contextmanager
def _without_threads() -> Iterator[None]:
    """So that the same file takes the same way each time, and thousands of them less of it."""
    mapped = lambda function, items, _: (function(item) for item in items)  # noqa: E731  (closed as ordered_map is)
    with (
        mock.patch.object(batch, "ordered_map", mapped),
        mock.patch.object(converting, "ordered_map", mapped),
        mock.patch.object(decoding, "read_ahead", iter),
    ):
        yield


@functools.cache
def _classifier() -> Classifier:
    return Classifier("bundle", "cpu", num_threads=1)


def classify(given: str | Path, *, null: bool = False) -> None:
    """Do what `infoae classify` does with an input."""
    sources = open_sources([str(given)], IMAGE, null=null)
    counts = [source.count() for source in sources]
    rows, sink = RowFormat.parse(_classifier().manifest, None, latent=False), _Rows()
    with _without_threads():
        done = batch.classify_sources(sources, _classifier(), rows, sink)
    assert (done.num_rows, done.num_failed) == (len(sink.keys), len(sink.reasons)), "another number of rows than told"
    if None not in counts and not any("unreadable after" in reason for reason in sink.reasons):
        assert sum(filter(None, counts)) == len(sink.keys), "another number of rows than counted"


def listed(path: Path, *, null: bool) -> None:
    """Classify a list on standard input."""
    with path.open("rb") as content, mock.patch.object(sys, "stdin", io.TextIOWrapper(content)):
        classify("-", null=null)


def train_on(name: str, root: str | Path, *settings: str) -> None:
    """Do what a training does with its data before it begins; of pictures it makes shards, here anew each time."""
    shutil.rmtree(CACHE, ignore_errors=True)
    with _without_threads(), mock.patch.dict(os.environ, {FOLDER: CACHE}):
        plan = planning.planned("smoke", [f"data.name={name}", f"data.root={root}", *settings], Path("runs"), None)
    images.identify(plan.train.images)


def train_on_pictures(path: Path) -> None:
    """Do what `infoae train --data PATH` does before it begins, with the folders in it as classes."""
    train_on("files", path, *(["data.labels=folders"] if path.suffix != ".npy" else []))


@functools.cache
def _config() -> Config:
    return recipes.load("smoke")


def show(path: Path) -> None:
    """Do what `infoae config show` does with a recipe."""
    config = recipes.load(path)
    list(schedule_of(config).table())
    assert recipes.parse(recipes.dump(config), "what was written") == config


def search(path: Path) -> None:
    """Read a search space, and the first values of its grid."""
    found = space.load(path, _config())
    list(itertools.islice(space.grid(found), 10))
    space.current(_config(), found)


def tabulate(path: Path) -> None:
    """Read a table of recipes, and the configuration of each row."""
    found = tables.load(str(path))
    if found is not None:
        tables.entries(found, True, ())


def _contents(paths: Iterable[Path]) -> list[bytes]:
    return [path.read_bytes() for path in paths]


def _spaces() -> list[bytes]:
    """Search spaces that fit the configuration."""
    return _contents(path for name, path in space.spaces().items() if name in ("lambdas", "neighbours", "paper"))


def _png_checksums(content: bytes) -> bytes:
    """Return a PNG file with the checksum that each of its chunks should have."""
    fixed, start = bytearray(content), 8
    while start + 12 <= len(fixed):
        end = start + 8 + int.from_bytes(fixed[start : start + 4], "big")
        if end + 4 > len(fixed):
            break
        fixed[end : end + 4] = zlib.crc32(fixed[start + 4 : end]).to_bytes(4, "big")
        start = end + 4
    return bytes(fixed)


def _examples() -> list[bytes]:
    file = io.StringIO()
    csv.writer(file).writerows([("path", "name"), ("a.png", "one"), ("b c.png", 'tw"o'), ("ö\n.png", "three, four")])
    return [file.getvalue().encode(), b"\xef\xbb\xbfpath,label\r\na.png,1\r\n"]


def _lines(end: str) -> list[bytes]:
    return [b"".join(f"{name}{end}".encode() for name in seeds.names())]


PICTURES = {
    name: Kind(
        "pictures", f"x.{name}", lambda name=name: seeds.pictures()[name], classify,  # type: ignore[misc]
        _png_checksums if name == "png" else None,
    )
    for name in seeds.pictures()
}  # fmt: skip
CONTAINERS = {
    "tar": Kind("archives", "x.tar", seeds.tars, classify, seeds.with_checksums),
    "tar.gz": Kind("archives", "x.tar.gz", seeds.tars, classify, lambda tar: seeds.gz(seeds.with_checksums(tar))),
    "tar.bz2": Kind("archives", "x.tar.bz2", seeds.tars, classify, lambda tar: seeds.bz(seeds.with_checksums(tar))),
    "tar.xz": Kind("archives", "x.tar.xz", seeds.tars, classify, lambda tar: lzma.compress(tar, preset=0)),
    "tar.zst": Kind("archives", "x.tar.zst", seeds.tars, classify, lambda tar: seeds.zstd(seeds.with_checksums(tar))),
    "zip": Kind("archives", "x.zip", seeds.zips, classify),
    "npy": Kind("arrays", "x.npy", seeds.arrays, classify),
    "npz": Kind("arrays", "x.npz", seeds.archives_of_arrays, classify),
    "idx": Kind("arrays", "x.idx", seeds.idx_arrays, classify),
    "idx.gz": Kind("arrays", "x-ubyte.gz", seeds.idx_arrays, classify, seeds.gz),
    "parquet": Kind("columns", "x.parquet", seeds.columns, classify),
    "list": Kind("lists", "list", lambda: _lines("\n"), lambda path: listed(path, null=False)),
    "list --null": Kind("lists", "list", lambda: _lines("\0"), lambda path: listed(path, null=True)),
    "shard": Kind("training data", "shards/train/0.npy", seeds.arrays, lambda _: train_on("shards", "shards")),
    "recipe": Kind("configurations", "x.yaml", lambda: _contents(recipes.available().values()), show),
}
"""What holds many, and so has a parser that a fuzzer is worth its while for."""
OTHERS = {
    "tar, trained on": Kind("training data", "x.tar", seeds.tars, train_on_pictures, seeds.with_checksums),
    "zip, trained on": Kind("training data", "x.zip", seeds.zips, train_on_pictures),
    "npy, trained on": Kind("training data", "x.npy", seeds.arrays, train_on_pictures),
    "png, trained on": Kind(
        "training data", "pictures/a/1.png", lambda: seeds.pictures()["png"],
        lambda _: train_on_pictures(Path("pictures")),
    ),
    "table of classes": Kind(
        "training data", "classes.csv", lambda: [b"path,label\na/1.png,one\na/2.png,two\nb/3.png,one\n"],
        lambda path: train_on("files", "pictures", f"data.labels={path}"),
    ),
    "npz of a damaged array": Kind(
        "arrays", "x.npz", seeds.arrays, classify, lambda array: seeds.npz(images=array)
    ),
    "test_labels.npy": Kind(
        "training data", "shards/test_labels.npy", lambda: [Path("shards/test_labels.npy").read_bytes()],
        lambda _: train_on("shards", "shards"),
    ),
    "fashion-mnist": Kind(
        "training data", f"{TORCHVISION}/train-images-idx3-ubyte", seeds.idx_arrays,
        lambda _: train_on("fashion-mnist", "torchvision"),
    ),
    "usps": Kind(
        "training data", "usps/usps.bz2", seeds.usps, lambda _: train_on("usps", "usps"), seeds.bz
    ),
    "search space": Kind("configurations", "x.yaml", _spaces, search),
    "table": Kind("configurations", "x.yaml", lambda: _contents(tables.available().values()), tabulate),
    "examples": Kind("lists", "x.csv", _examples, lambda path: names.read_examples(path, seeds.SHAPE)),
    "labels.txt": Kind(
        "lists", "x.txt", lambda: [b"one\ntwo\nthree and more\n"], lambda path: names.read_names(path, 3)
    ),
    "labels.json": Kind(
        "lists", "x.json", lambda: [b'["one", null, "x"]', b'{"0": "one", "2": "x"}'],
        lambda path: names.read_names(path, 3),
    ),
}  # fmt: skip
