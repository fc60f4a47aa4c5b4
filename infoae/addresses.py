"""Addresses of folders in object stores, as text: s3://bucket/path, gs://bucket/path, file:///folder."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

OPTIONS = {"s3": {"region", "endpoint_override", "scheme"}, "gs": set[str](), "file": set[str]()}
"""What may follow the `?` of an address, by its kind."""
ANYBODY = "anonymous@"
"""Before a bucket that is read without credentials."""


def is_address(place: str) -> bool:
    """Whether `place` is an address, and no path."""
    return "://" in place


def check_address(address: str) -> str:
    """Return the address of a folder without a slash at its end. Raises ValueError for what none of ours is."""
    parts = urlsplit(address)
    if parts.scheme not in OPTIONS or not (parts.netloc or parts.scheme == "file") or parts.fragment:
        raise ValueError(f"{address}: give s3://bucket/path, gs://bucket/path or file:///folder")
    if unknown := dict(parse_qsl(parts.query)).keys() - OPTIONS[parts.scheme]:
        known = ", ".join(sorted(OPTIONS[parts.scheme])) or "nothing"
        raise ValueError(f"{address}: {min(unknown)} is no option of such an address; {known} may follow the ?")
    if "@" in bucket_of(address):  # it would be kept with the run
        raise ValueError("an address with a key in it: give the key as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    return parts._replace(path=parts.path.rstrip("/")).geturl()


def bucket_of(address: str) -> str:
    """Return the bucket of an address."""
    return urlsplit(address).netloc.removeprefix(ANYBODY)


def within(address: str, name: str) -> str:
    """Return the address of what is called `name` below a folder."""
    parts = urlsplit(address)
    return parts._replace(path=f"{parts.path}/{name}").geturl()


def without_options(address: str) -> str:
    """Return an address as people are shown it."""
    return urlsplit(address)._replace(query="").geturl()


def parted(address: str) -> tuple[str, str]:
    """Return the address of the folder in which something lies, and its name there."""
    parts = urlsplit(address)
    folder, _, name = parts.path.rpartition("/")
    return parts._replace(path=folder).geturl(), name
