"""Where `infoae convert` writes: a folder, or an object store by way of one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from infoae import kept
from infoae.addresses import check_address, is_address, within
from infoae.data.object_store import UNFINISHED, delete, files, look, try_writing, write
from infoae.errors import InfoAEError, UsageError
from infoae.files import scratch_folder

UPLOADS = 4
"""Files that are written at once."""


@contextmanager
def written_to(out: str) -> Iterator[Path]:
    """Yield the folder to write: `out`, or if that is an address, one which is copied there once it is whole.

    Raises UsageError for an address that is none, InfoAEError if shards lie there already or it cannot be reached.
    """
    if not is_address(out):
        yield Path(out)
        return
    try:
        address = check_address(out)
    except ValueError as error:
        raise UsageError(f"--out: {error}") from None
    _refuse_taken(address)
    name = f"upload-{hashlib.blake2b(address.encode(), digest_size=10).hexdigest()}"
    with scratch_folder(kept.cache_folder() / name) as folder:
        yield folder / "shards"
        _upload(folder / "shards", address)


def _refuse_taken(address: str) -> None:
    """Raise InfoAEError if shards lie there already, unless they are not whole, or if nothing can be written there."""
    if look(within(address, UNFINISHED)) is None:
        if found := files(within(address, "train"), ""):
            raise InfoAEError(f"{address} holds {found[0].name} and more in train: give an address where nothing is")
        try_writing(within(address, UNFINISHED))


def _upload(folder: Path, address: str) -> None:
    """Copy all files below a folder into a store. Until all are there, UNFINISHED lies beside them.

    Raises InfoAEError as `files` does.
    """
    write(within(address, UNFINISHED), b"")
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    with ThreadPoolExecutor(UPLOADS) as pool:
        list(pool.map(lambda path: write(within(address, path.relative_to(folder).as_posix()), path), paths))
    delete(within(address, UNFINISHED))
