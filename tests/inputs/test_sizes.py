"""Sizes that a container states are compared before anything is allocated or looped over."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import resource
import struct
import subprocess
import sys
import tarfile
import threading
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from infoae import limits
from infoae.errors import InfoAEError
from infoae.inputs import zip_file
from tests.helpers import parquet_pages as pages
from tests.helpers.inputs import PIXELS, png, read, write_tar

CAP = 2 * 1024**3
PROGRAM = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({cap}, {cap}))
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
from tests.helpers.inputs import read
for path in sys.argv[1:]:
    try:
        keys, images, errors = read(path)
        print(path.rpartition('/')[2], len(images), [error for error in errors if error][-1:])
    except Exception as error:
        print(path.rpartition('/')[2], type(error).__name__, error)
status = dict(line.split(':', 1) for line in open('/proc/self/status'))  # getrusage would count the parent's memory
print('done', int(status['VmHWM'].split()[0]) // 1024)
"""


def member(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """The header of a tar member that states `size`."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def whole_tar(*names: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(png(1))
            archive.addfile(info, io.BytesIO(png(1)))
    return file.getvalue()


def without_end(content: bytes) -> bytes:
    return content.rstrip(b"\0").ljust(-(-len(content.rstrip(b"\0")) // 512) * 512, b"\0")


def false_sizes(folder: Path) -> dict[str, str]:
    """A container for each size that can be false, and what is said of it; each but the first few has one image."""
    start = without_end(whole_tar("1.png"))
    long = 3 * 1024**3
    tars = {
        "claims.tar": member("2.png", 2**62),
        "claims-other.tar": member("2.json", 2**62),  # passed over, not read
        "pax.tar": member("x", long, tarfile.XHDTYPE) + bytes(4 * 1024**2),
        "global.tar": member("x", long, tarfile.XGLTYPE) + bytes(4 * 1024**2),
        "name.tar": member("x", long, tarfile.GNUTYPE_LONGNAME) + bytes(4 * 1024**2),
        "chain.tar": member("x", 0, tarfile.XHDTYPE) * 5000,
        "negative.tar": member("2.png", -512) + bytes(1024),
    }
    for name, rest in tars.items():
        (folder / name).write_bytes(start + rest)
    (folder / "zeros.tar.gz").write_bytes(gzip.compress(start + member("2.png", long) + bytes(64 * 1024**2)))
    header = b"\x93NUMPY\x02\0" + (2**32 - 1).to_bytes(4, "little") + b"{"
    (folder / "header.npy").write_bytes(header)
    with zipfile.ZipFile(folder / "header.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", header + bytes(200 * 1024**2))
    for name, shape in {"negative.npy": "(-2, 28, 28)", "huge.npy": f"({2**62}, 28, 28)"}.items():
        text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
        (folder / name).write_bytes(b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text + bytes(784))
    image = bytes(64 * 1024**2)
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 40, pa.int32()), pa.array([image]))
    parquet.write_table(pa.table({"image": column}), folder / "repeated.parquet", compression="zstd")
    nulls = pa.table({"image": pa.nulls(3_000_000, pa.binary())})
    parquet.write_table(nulls, folder / "nulls.parquet", row_group_size=3_000_000)
    pages.inflating(folder / "page.parquet", 1200 * 1024**2)
    pages.lengths_without_end(folder / "lengths.parquet")
    pages.dictionary_without_end(folder / "dictionary.parquet")
    with zipfile.ZipFile(folder / "large.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.png", png(1))
        archive.writestr("2.png", bytes(100 * 1024**2))
    return {
        "claims.tar": "1 ['unreadable after 2.png: unexpected end of data']",
        "claims-other.tar": "1 ['unreadable after 1.png: unexpected end of data']",
        "pax.tar": "1 ['unreadable after 1.png: a header of more bytes than 1,048,576 ",
        "global.tar": "1 ['unreadable after 1.png: a header of more bytes than 1,048,576 ",
        "name.tar": "1 ['unreadable after 1.png: a header of more bytes than 1,048,576 ",
        "chain.tar": "1 ['unreadable after 1.png: ",
        "negative.tar": "1 ['unreadable after 1.png: a member of negative size']",
        "zeros.tar.gz": "1 ['unreadable after 2.png: unexpected end of data']",
        "header.npy": "0 ['cannot be opened: a header of 4294967295 bytes, more than 1,048,576 ",
        "header.npz": "0 ['cannot be opened: a header of 4294967295 bytes, more than 1,048,576 ",
        "negative.npy": "0 ['cannot be opened: an array of shape (-2, 28, 28)']",
        "huge.npy": "1 ['unreadable after image 1 of 4611686018427387904: the file ends early']",
        "repeated.parquet": "0 ['not an image of a known format']",
        "nulls.parquet": "0 ['cannot be opened: 3000000 rows in ",
        "page.parquet": "0 ['unreadable after its start: a page of 1258291210 bytes, more than 1,073,741,824 ",
        "lengths.parquet": "0 ['unreadable after its start: pages in encoding 6, which is not read: ",
        "dictionary.parquet": "0 ['unreadable after its start: a page of 17179869184 bytes, more than ",
        "large.zip": "1 ['not an image of a known format']",
    }


def test_false_sizes_cost_neither_memory_nor_time(tmp_path: Path) -> None:
    wanted = false_sizes(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(cap=CAP), *(str(tmp_path / name) for name in wanted)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    lines = done.stdout.splitlines()
    assert lines, done.stderr
    assert lines[-1].startswith("done"), done.stdout + done.stderr
    for line, (name, said) in zip(lines, wanted.items(), strict=False):
        assert line.startswith(f"{name} {said}"), line
    assert int(lines[-1].split()[1]) < 1024, lines[-1]


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_of_a_zip_that_becomes_more_than_it_states(kind: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", kind) as archive:
        archive.writestr("1.png", bytes(160 * 1024**2))
    content = bytearray((tmp_path / "x.zip").read_bytes())
    stated = content.rindex(b"PK\1\2") + 24
    content[stated : stated + 4] = (10).to_bytes(4, "little")
    (tmp_path / "x.zip").write_bytes(content)
    tracemalloc.start()
    try:
        assert read(tmp_path / "x.zip")[2] == ["Bad CRC-32 for file '1.png'"]
        assert tracemalloc.get_traced_memory()[1] < 100 * 1024**2
    finally:
        tracemalloc.stop()


def test_arrays_are_compressed_as_numpy_does(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_BZIP2) as archive, archive.open("x.npy", "w") as file:
        np.lib.format.write_array(file, PIXELS)
    assert "save it with np.savez_compressed" in str(read(tmp_path / "x.npz")[2][0])


def test_an_archive_of_thousands_of_arrays_opens_at_once(tmp_path: Path) -> None:
    """Reading the table of contents for each array would take minutes of the processor."""
    others: dict[str, Any] = {f"other{number}": np.zeros(1) for number in range(4000)}
    np.savez(tmp_path / "x.npz", images=PIXELS[:2], **others)
    start = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    assert len(read(tmp_path / "x.npz")[0]) == 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - start < 10


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.idx", "x.parquet", "x.tar", "x.tar.gz", "x.zip", "x.png"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.extend(read(tmp_path / name)[2]), daemon=True)
    thread.start()
    thread.join(60)
    assert "not a regular file" in str(found)


def test_an_archive_that_expands_too_far_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (limits, sys.modules["infoae.inputs.archives"]):
        monkeypatch.setattr(module, "MAX_EXPANSION", 10)
    monkeypatch.setattr(limits, "FREE_EXPANSION", 1024**2)
    zeros = {"1.png": png(1), "zeros.bmp": bytes(4 * 1024**2)}
    write_tar(tmp_path / "x.tar.gz", zeros, "w:gz")
    write_tar(tmp_path / "x.tar", zeros)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in zeros.items():
            archive.writestr(name, content)
    keys, _, errors = read(tmp_path / "x.tar.gz")
    assert keys == [f"{tmp_path}/x.tar.gz#1.png", f"{tmp_path}/x.tar.gz"]
    assert "more times as many bytes as in the file than 10" in str(errors[1])
    assert "more times as many than 10" in str(read(tmp_path / "x.zip")[2][0])
    assert len(read(tmp_path / "x.tar")[0]) == 2


def test_a_list_without_newlines_is_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    for content, null in ((b"x" * 2**20, False), (b"x" * 2**20, True), (b"a\0b\n", False)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        with pytest.raises(InfoAEError, match="standard input is no list of files"):
            read("-", null=null)


@pytest.mark.parametrize("name", ["x.zip", "x.npz"])
def test_a_table_of_contents_is_not_read_if_it_is_too_large(tmp_path: Path, name: str) -> None:
    """It is 1200 MB here, of which the file has almost nothing on the disk."""
    size = 1200 * 1024**2
    with (tmp_path / name).open("wb") as file:
        file.seek(size)
        file.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, size, 0, 0))
    tracemalloc.start()
    keys, images, errors = read(tmp_path / name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(keys), len(images)) == (1, 0)
    assert f"a table of contents of {size} bytes, more than 1,073,741,824 (INFOAE_MAX_DIRECTORY_BYTES" in str(errors[0])
    assert peak < 50 * 1024**2


def test_a_large_member_is_no_table_of_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infoae.inputs.zip_file.MAX_DIRECTORY_BYTES", 100)
    content = np.random.default_rng(0).bytes(100_000)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("1", content)
    with zip_file.opened(str(tmp_path / "x.zip")) as archive:
        assert archive.read("1") == content


def test_a_dictionary_of_lzma_larger_than_any_image_is_not_made_room_for(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", {f"{number}.png": png(number) for number in range(40)})
    content, half = (tmp_path / "x.tar").read_bytes(), 20_000
    large = lzma.compress(content, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}])
    (tmp_path / "large.tar.xz").write_bytes(large)
    assert "cannot be opened: Memory usage limit exceeded" in str(read(tmp_path / "large.tar.xz")[2])
    # Streams may follow each other, with zeros between them.
    (tmp_path / "two.tar.xz").write_bytes(lzma.compress(content[:half]) + bytes(4) + lzma.compress(content[half:]))
    keys, images, errors = read(tmp_path / "two.tar.xz")
    assert (len(keys), set(errors)) == (40, {None})
    assert (images[:, 0] == PIXELS[:40]).all()
    (tmp_path / "cut.tar.xz").write_bytes(lzma.compress(content)[:-100])
    assert "the xz file ends early" in str(read(tmp_path / "cut.tar.xz")[2][-1])
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_LZMA) as archive:
        for number in range(3):
            archive.writestr(f"{number}.png", png(number))
        second = archive.infolist()[1].header_offset
    stored = bytearray((tmp_path / "x.zip").read_bytes())
    start = second + 30 + len("1.png") + 5
    stored[start : start + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "x.zip").write_bytes(stored)
    assert [str(error)[:52] for error in read(tmp_path / "x.zip")[2]] == [
        "None",
        "an LZMA dictionary of 4294967295 bytes, more than 53",
        "None",
    ]
