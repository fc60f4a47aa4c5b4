"""Zip archives, opened so that their table of contents is not larger than a limit."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

from infoae.data.unreadable import UnreadableImageError
from infoae.limits import MAX_DIRECTORY_BYTES


class _Directory(io.BufferedReader):
    """A file whose table of contents is about to be read, which zipfile does at once, and then for each member."""

    whole = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Return at most `size` bytes. Raises UnreadableImageError for more than a table may have, until it is read."""
        if size is not None and size > MAX_DIRECTORY_BYTES and not self.whole:
            raise UnreadableImageError(f"a table of contents of {size} bytes, more than {MAX_DIRECTORY_BYTES}")
        return super().read(size)


@contextmanager
def opened(path: str) -> Iterator[zipfile.ZipFile]:
    """Open an archive. Raises UnreadableImageError if its table is too large, and whatever it may be if damaged."""
    with _Directory(io.FileIO(path)) as file, zipfile.ZipFile(file) as archive:
        file.whole = True
        yield archive
