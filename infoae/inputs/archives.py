"""Images inside archives as a source: tar (WebDataset shards), compressed or not, and zip."""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

import pyarrow as pa

from infoae.data.selection import why_passed_over
from infoae.data.unreadable import UnreadableImageError, check_file, unreadable
from infoae.inputs import zip_file
from infoae.inputs.blocks import Block, Encoded, PassedOver, in_blocks, key_of
from infoae.limits import MAX_BYTES, MAX_EXPANSION, MAX_HEADER_BYTES, expands_too_far

PIECE_BYTES, SMALL_PIECE_BYTES = 1024 * 1024, 4096
_LINK = "a link to {}: pack the images themselves (tar --dereference --hard-dereference)"


@dataclass(frozen=True)
class TarSource:
    """A tar archive, compressed or not, read once from front to back; one input for each member that is one."""

    path: str

    @classmethod
    def open(cls, path: str) -> TarSource:
        """Look at the first member. Raises, whatever it may be, if the file is no tar archive."""
        with _opened_tar(path) as archive:
            archive.next()
        return cls(path)

    def count(self) -> None:
        """Return None: only reading the archive tells."""

    def blocks(self, size: int) -> Iterator[Block]:
        """Return the archive's image files in its order, as they are encoded; the key is the name of each."""
        return in_blocks(self._items(), size, key_of(self.path))

    def _items(self) -> Iterator[tuple[str, Encoded | PassedOver]]:
        with _opened_tar(self.path) as archive:
            for member in iter(archive.next, None):
                archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps every member it has met
                if member.isdir():
                    continue
                reason = why_passed_over(member.name)
                encoded = PassedOver(reason) if reason else _member_of_tar(archive, member)
                yield f"{key_of(self.path)}#{key_of(member.name)}", encoded


@dataclass(frozen=True)
class ZipSource:
    """A zip archive; one input for each member that is one."""

    path: str
    num_images: int

    @classmethod
    def open(cls, path: str) -> ZipSource:
        """Read the table of contents. Raises, whatever it may be, if the file is no zip archive."""
        size = check_file(path)
        with zip_file.opened(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
        total = sum(member.file_size for member in members)
        if expands_too_far(total, size):
            raise UnreadableImageError(f"{total} bytes in {size}: more times as many than {MAX_EXPANSION}")
        return cls(path, sum(why_passed_over(member.filename) is None for member in members))

    def count(self) -> int:
        """Return the number of images, as the table of contents has it."""
        return self.num_images

    def blocks(self, size: int) -> Iterator[Block]:
        """Return the archive's image files in its order, as they are encoded; the key is the name of each."""
        return in_blocks(self._items(), size, key_of(self.path))

    def _items(self) -> Iterator[tuple[str, Encoded | PassedOver]]:
        with zip_file.opened(self.path) as archive:
            for member in archive.infolist():
                if not member.is_dir():
                    reason = why_passed_over(member.filename)
                    encoded = PassedOver(reason) if reason else _member_of_zip(archive, member)
                    yield f"{key_of(self.path)}#{key_of(member.filename)}", encoded


def _member_of_zip(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Encoded:
    if member.flag_bits & 1:
        return UnreadableImageError("encrypted")
    if member.file_size > MAX_BYTES:
        return UnreadableImageError(f"{member.file_size} bytes, more than {MAX_BYTES}")
    try:
        with unreadable():
            content = _inflated_member(archive, member)
    except UnreadableImageError as error:  # a zip archive is entered anywhere, so the next member can be read
        return error
    if stat.S_ISLNK(member.external_attr >> 16):
        return UnreadableImageError(_LINK.format(key_of(content[:1000].decode("utf-8", "surrogateescape"))))
    return content


def _inflated_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Read a member piece by piece: read whole, zipfile inflates all there is, however little it should become.

    So it does with each piece of LZMA, which may become 7,000 times as large, and of bzip2, to which there is no end.
    """
    if member.compress_type == zipfile.ZIP_BZIP2:
        return _bzip2_member(archive, member)
    if member.compress_type == zipfile.ZIP_LZMA:
        _check_dictionary(archive, member)
    size = SMALL_PIECE_BYTES if member.compress_type == zipfile.ZIP_LZMA else PIECE_BYTES
    with archive.open(member) as file:
        return b"".join(iter(functools.partial(file.read, size), b""))


def _bzip2_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    compressed = _compressed(archive, member, min(member.compress_size, MAX_BYTES))
    content = bz2.BZ2Decompressor().decompress(compressed, member.file_size + 1)
    if len(content) != member.file_size or zlib.crc32(content) != member.CRC:
        raise zipfile.BadZipFile(f"Bad CRC-32 for file {member.filename!r}")
    return content


def _check_dictionary(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Raise UnreadableImageError if LZMA would make room for a dictionary that no image needs."""
    size = int.from_bytes(_compressed(archive, member, 9)[5:], "little")
    if size > MAX_BYTES:
        raise UnreadableImageError(f"an LZMA dictionary of {size} bytes, more than {MAX_BYTES}")


def _compressed(archive: zipfile.ZipFile, member: zipfile.ZipInfo, size: int) -> bytes:
    """Return the first bytes of a member as they are stored."""
    file: Any = archive.fp
    file.seek(member.header_offset)
    file.seek(sum(struct.unpack("<26xHH", file.read(30))), io.SEEK_CUR)  # past the name, which the header has again
    content: bytes = file.read(size)
    return content


class _Xz:
    """An xz file, inflated: as lzma.LZMAFile, which has no limit for the dictionary that a file asks for."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._decompressor = file, lzma.LZMADecompressor(memlimit=MAX_BYTES)

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, none at the end. Raises LZMAError for what is damaged or asks for too much."""
        while True:
            if self._decompressor.eof:
                rest = self._decompressor.unused_data.lstrip(b"\0") or self._file.read(PIECE_BYTES).lstrip(b"\0")
                if not rest:
                    return b""
                self._decompressor = lzma.LZMADecompressor(memlimit=MAX_BYTES)
            else:
                rest = self._file.read(PIECE_BYTES) if self._decompressor.needs_input else b""
                if self._decompressor.needs_input and not rest:
                    raise EOFError("the xz file ends early")
            content = self._decompressor.decompress(rest, size)
            if content:
                return content


def _member_of_tar(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Encoded:
    if member.islnk() or member.issym():  # what it points to may lie anywhere; a stream does not go back
        return UnreadableImageError(_LINK.format(key_of(member.linkname)))
    if not member.isfile():
        return UnreadableImageError("not a regular file")
    if member.size > MAX_BYTES:
        return UnreadableImageError(f"{member.size} bytes, more than {MAX_BYTES}")
    file = archive.extractfile(member)
    assert file is not None, member.name
    return file.read()


class _Stream:
    """The bytes of a tar archive, inflated; what is read of them is bounded by what is there, not by what is stated."""

    def __init__(self, file: Any, compressed: int | None) -> None:
        self._file, self._compressed = file, compressed
        self._ended = False
        self.position = 0
        self.header_end: int | None = None
        """Where the header that is being read has to end."""

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes. Raises where tarfile would go on for as long as a size states that is false."""
        if self._ended:
            raise EOFError("unexpected end of data")
        content: bytes = self._file.read(size)
        self._ended = not content
        self.position += len(content)
        if self.header_end is not None and self.position > self.header_end:
            raise tarfile.ReadError(f"a header of more bytes than {MAX_HEADER_BYTES}")
        if self._compressed is not None and expands_too_far(self.position, self._compressed):
            raise tarfile.ReadError(f"more times as many bytes as in the file than {MAX_EXPANSION}")
        return content


class _StrictTarInfo(tarfile.TarInfo):
    """tarfile takes a damaged header, or none, for the end of the archive; the rest would be lost in silence."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        archive: Any = tarfile_
        stream: _Stream = archive.fileobj.fileobj
        outer = stream.header_end
        # A header may have others before it (a long name, attributes), and tarfile reads it with what follows it.
        stream.header_end = outer or stream.position + MAX_HEADER_BYTES
        try:
            member = super().fromtarfile(tarfile_)
        except tarfile.HeaderError as error:
            kind = type(error).__name__
            if kind == "EOFHeaderError":  # the blocks of zeros that end an archive; another one may follow
                archive.seen_end = True
                raise
            if kind == "EmptyHeaderError" and getattr(archive, "seen_end", False):
                raise
            raise tarfile.ReadError(
                "it is cut short" if kind == "EmptyHeaderError" else f"damaged ({error})"
            ) from error
        finally:
            stream.header_end = outer
        if member.size < 0:
            raise tarfile.ReadError("a member of negative size")
        archive.seen_end = False
        return member


@contextmanager
def _opened_tar(path: str) -> Iterator[tarfile.TarFile]:
    size = check_file(path)
    with Path(path).open("rb") as file, _inflated(file) as inflated:
        stream: Any = _Stream(inflated, None if inflated is file else size)
        # Archives may follow each other in one file: their ends are passed over.
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_StrictTarInfo, ignore_zeros=True) as archive:
            yield archive


def _inflated(file: IO[bytes]) -> Any:
    """The stream that `file` holds, by its first bytes; `file` itself where it is not compressed."""
    start = file.read(6)
    file.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    if start.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if start == b"\xfd7zXZ\0":
        return nullcontext(_Xz(file))
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        return pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")
    return file
