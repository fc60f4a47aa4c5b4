"""Small valid files of every kind that infoae reads: what mutations and fuzzers begin with."""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import tarfile
import zipfile
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet

from tests.helpers import raw_images
from tests.helpers.inputs import idx

SIDE = 8
SHAPE = (1, SIDE, SIDE)
PIXELS = np.random.default_rng(0).integers(0, 256, (6, *SHAPE), np.uint8)
_COLOUR = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 4), np.uint8)


@functools.cache
def pictures() -> dict[str, list[bytes]]:
    """Return pictures by the ending of their names: of every mode, depth and compression that Pillow writes."""
    grey, alpha = Image.fromarray(PIXELS[0, 0]), Image.fromarray(_COLOUR)
    colour = alpha.convert("RGB")
    palette, bilevel, cmyk = colour.quantize(16), grey.convert("1"), colour.convert("CMYK")
    deep = Image.fromarray(PIXELS[1, 0].astype(np.uint16) * 257)
    turned: dict[str, Any] = {"exif": _orientation(6)}
    several: dict[str, Any] = {"save_all": True, "append_images": [colour, palette]}
    samples = np.random.default_rng(2).integers(0, 4096, (SIDE, SIDE, 3))
    return {
        "png": [
            *_saved("PNG", (grey, {}), (alpha, {}), (deep, {}), (palette, {"transparency": 1}), (colour, turned)),
            raw_images.png(samples, 16, transparent=(1, 2, 3)),
            raw_images.png(samples[:, :, :1] % 4, 2, transparent=(1,)),
        ],
        "jpg": _saved("JPEG", (grey, {}), (colour, {"progressive": True}), (cmyk, {}), (colour, turned)),
        "tif": [
            *_saved("TIFF", (grey, {}), (bilevel, {"compression": "group4"}), (deep, {"compression": "tiff_lzw"})),
            *_saved("TIFF", *((colour, {"compression": kind}) for kind in ("jpeg", "packbits", "tiff_adobe_deflate"))),
            raw_images.tiff(samples, 16, planes=True),
            raw_images.tiff(samples[:, :, :1], 12, order=">", photometric=raw_images.WHITE_IS_ZERO),
        ],
        "gif": _saved("GIF", (palette, {}), (palette, {"transparency": 1}), (grey, several)),
        "webp": _saved("WEBP", (colour, {}), (alpha, {"lossless": True}), (alpha, several)),
        "bmp": _saved("BMP", (grey, {}), (colour, {}), (palette, {}), (bilevel, {}), (alpha, {})),
        "ppm": [
            *_saved("PPM", (grey, {}), (colour, {}), (bilevel, {}), (deep, {})),
            b"P3 2 2 255 " + b"1 2 3 " * 4,
            b"P2\n# words\n2 2\n1023\n1 2\n3 1023\n",
        ],
        "jp2": _saved("JPEG2000", (grey, {}), (colour, {}), (deep, {}), (colour, {"no_jp2": True})),
        "avif": _saved("AVIF", (colour, {}), (alpha, {})),
        "heic": _heic(colour, alpha),
    }


@functools.cache
def members() -> dict[str, bytes]:
    """Return what lies in archives: images, one of them under a long name, and what is none."""
    known = pictures()
    return {
        "a/1.png": known["png"][0],
        f"b/{'long' * 40}.jpg": known["jpg"][0],
        "b/ö.gif": known["gif"][0],
        "b/2.txt": b"words",
        "b/.hidden.png": known["png"][0],
    }


@functools.cache
def tars() -> list[bytes]:
    """Return tar archives of every format, with attributes, a folder, links and a sparse file."""
    return [_tar(kind) for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)]


@functools.cache
def zips() -> list[bytes]:
    """Return zip archives of every compression."""
    kinds = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    return [_zip(kind) for kind in kinds]


@functools.cache
def arrays() -> list[bytes]:
    """Return `.npy` files of images: of both versions, with and without channels, in Fortran's order, and none."""
    given = (PIXELS, PIXELS[:, 0], np.asfortranarray(PIXELS), PIXELS[:0])
    return [_npy(images, version) for images in given for version in ((1, 0), (2, 0))]


@functools.cache
def archives_of_arrays() -> list[bytes]:
    """Return `.npz` files of one array and of several, compressed or not."""
    several = {"images": PIXELS, "labels": np.arange(6)}
    return [_npz(compressed, content) for compressed in (False, True) for content in (several, {"x": PIXELS})]


@functools.cache
def idx_arrays() -> list[bytes]:
    """Return IDX files of images."""
    return [idx(PIXELS[:, 0]), idx(PIXELS)]


@functools.cache
def usps() -> list[bytes]:
    """Return a file of the data set USPS, as its text before it is compressed."""
    lines = (f"{label} " + " ".join(f"{pixel + 1}:{pixel / 128 - 1:.2f}" for pixel in range(256)) for label in (1, 5))
    return ["".join(f"{line}\n" for line in lines).encode()]


@functools.cache
def columns() -> list[bytes]:
    """Return Parquet files whose columns hold images in every way that is read, compressed in several."""
    images = [pictures()["png"][0], None, pictures()["jpg"][0], pictures()["png"][0]]
    structs = [{"bytes": image, "path": None if image else "x.png"} for image in images]
    of_one_size = pa.array([bytes(100)] * 4, pa.binary(100))
    plain = {"compression": "none", "use_dictionary": False}
    return [
        _parquet(pa.array(images, pa.binary()), **plain),
        _parquet(pa.array(images, pa.binary()), compression="snappy", row_group_size=2),
        _parquet(pa.array(images, pa.large_binary()), compression="gzip", data_page_version="2.0"),
        _parquet(pa.array(images, pa.binary()).dictionary_encode(), compression="lz4"),
        _parquet(pa.array(structs), compression="zstd"),
        _parquet(pa.array(structs), **plain),
        _parquet(of_one_size, compression="brotli", column_encoding="BYTE_STREAM_SPLIT", use_dictionary=False),
    ]


def names() -> Iterable[str]:
    """Return names of files, one of them missing."""
    return ("a.png", "b c.png", "ö\n.png", "missing.png", "..", "/dev/null")


def _saved(form: str, *images: tuple[Image.Image, dict[str, Any]]) -> list[bytes]:
    found = []
    for image, options in images:
        file = io.BytesIO()
        image.save(file, form, **options)
        found.append(file.getvalue())
    return found


def _heic(*images: Image.Image) -> list[bytes]:
    import pillow_heif

    pillow_heif.register_heif_opener()
    return _saved("HEIF", *((image.resize((32, 32)), {}) for image in images))


def _orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def _tar(kind: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as archive:
        for name, content in members().items():
            member = tarfile.TarInfo(name if kind != tarfile.USTAR_FORMAT else name.replace("long" * 40, "long" * 20))
            member.size = len(content)
            if kind == tarfile.PAX_FORMAT:
                member.mtime, member.pax_headers = 1.5, {"comment": "ö"}
            archive.addfile(member, io.BytesIO(content))
        for name, type_ in (("c", tarfile.DIRTYPE), ("d", tarfile.SYMTYPE), ("e", tarfile.LNKTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = type_, "" if name == "c" else "a/1.png"
            archive.addfile(member)
        if kind == tarfile.PAX_FORMAT:
            sparse = tarfile.TarInfo("f.png")
            sparse.size, sparse.pax_headers = 4, {"GNU.sparse.map": "0,2,6,2", "GNU.sparse.size": "8"}
            archive.addfile(sparse, io.BytesIO(b"1234"))
        if kind == tarfile.GNU_FORMAT:
            archive.fileobj.write(_old_sparse())
    return file.getvalue()


def _old_sparse() -> bytes:
    """A GNU sparse file of 4 bytes that stand for 8: its map lies in the header."""
    header = bytearray(tarfile.TarInfo("g.png").tobuf(tarfile.GNU_FORMAT))
    header[124:136], header[156:157] = b"%011o\0" % 4, tarfile.GNUTYPE_SPARSE
    for number, value in enumerate((0, 2, 6, 2)):
        header[386 + 12 * number : 398 + 12 * number] = b"%011o\0" % value
    header[483:495] = b"%011o\0" % 8
    return with_checksums(bytes(header)) + b"1234".ljust(512, b"\0")


def with_checksums(content: bytes) -> bytes:
    """Return a tar archive with the checksum that each of its headers should have."""
    fixed = bytearray(content)
    for start in range(0, len(fixed) - 511, 512):
        if fixed[start + 257 : start + 262] == b"ustar":
            fixed[start + 148 : start + 156] = b" " * 8
            fixed[start + 148 : start + 156] = b"%06o\0 " % sum(fixed[start : start + 512])
    return bytes(fixed)


def _zip(kind: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as archive:
        archive.comment = b"words"
        for name, content in members().items():
            archive.writestr(name, content)
        with archive.open("c/long.png", "w", force_zip64=True) as member:
            member.write(members()["a/1.png"])
    return file.getvalue()


def _npy(images: NDArray[Any], version: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, images, version)
    return file.getvalue()


def npz(**members: bytes) -> bytes:
    """Return an `.npz` file of `.npy` files, damaged or not."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def _npz(compressed: bool, content: dict[str, NDArray[Any]]) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **content)  # type: ignore[arg-type]
    return file.getvalue()


def _parquet(images: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.table({"image": images, "label": [0, 1, 2, 3]}), file, **options)
    return file.getvalue()


def zstd(content: bytes) -> bytes:
    """Return bytes compressed as `.zst`."""
    compressed: bytes = pa.Codec("zstd").compress(content, asbytes=True)
    return compressed


def gz(content: bytes) -> bytes:
    """Return bytes compressed as `.gz`, the same ones for the same bytes."""
    return gzip.compress(content, 1, mtime=0)


def bz(content: bytes) -> bytes:
    """Return bytes compressed as `.bz2`."""
    return bz2.compress(content, 1)
