"""Where `infoae convert` writes: a folder, or an object store by way of one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infoae import kept
from infoae.addresses import check_address, is_address
from infoae.data.object_store import refuse_taken, upload
from infoae.errors import UsageError
from infoae.files import scratch_folder


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
    refuse_taken(address)
    name = f"upload-{hashlib.blake2b(address.encode(), digest_size=10).hexdigest()}"
    with scratch_folder(kept.cache_folder() / name) as folder:
        yield folder / "shards"
        upload(folder / "shards", address)
