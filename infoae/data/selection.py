"""Which files in a folder or an archive are inputs: one rule, by name alone, wherever they lie.

What has an ending that belongs to something else, and what is hidden, is passed over, and counted; everything else is
an input, whatever its ending says of it. So an image never vanishes for being called `0001` or `x.heif`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, TypeAlias

_OTHER = frozenset(
    (  # noqa: SIM905
        "7z bz2 c cfg cls cls2 conf csv db doc docx gz h5 hdf5 htm html idx index ini inx ipynb js json jsonl lmdb log "
        "lst mat md md5 npy npz onnx parquet pdf pickle pkl pq pt pth py pyd rar rst rtf safetensors sha1 sha256 "
        "sqlite tar tbz tbz2 tex tfrecord tgz toml tsv txt txz tzst url xls xlsx xml xz yaml yml zip zst "
        "aac avi m4a mkv mov mp3 mp4 mpeg mpg webm"
    ).split()
)
ContainerKind: TypeAlias = Literal["array", "parquet", "tar", "zip", "list"]

_CONTAINERS: dict[ContainerKind, re.Pattern[str]] = {
    "array": re.compile(r"\.np[yz]$|(-ubyte|\.idx\d?)(\.gz)?$", re.IGNORECASE),
    "parquet": re.compile(r"\.(parquet|pq)$", re.IGNORECASE),
    "tar": re.compile(r"\.(tar(\.(gz|bz2|xz|zst))?|tgz|tbz2?|txz|tzst)$", re.IGNORECASE),
    "zip": re.compile(r"\.zip$", re.IGNORECASE),
    "list": re.compile(r"\.txt$", re.IGNORECASE),
}


def container_kind(name: str) -> ContainerKind | None:
    """Return what holds many images under such a name, or None: a file is one image."""
    return next((kind for kind, pattern in _CONTAINERS.items() if pattern.search(name)), None)


def why_passed_over(name: str) -> str | None:
    """Return why a file is no input, None if it is one: "hidden", or an ending that belongs to something else.

    `name` is its path below the folder or inside the archive. It is hidden if it, or a folder on its way, begins with a
    dot (as Mac's `._x.jpg` do).
    """
    *folders, name = name.split("/")
    if any(is_hidden(part) for part in (*folders, name)):
        return "hidden"
    if container_kind(name) == "array":
        return "arrays"
    ending = name.rpartition(".")[2].lower() if "." in name else ""
    return f".{ending}" if ending in _OTHER else None


def is_hidden(part: str) -> bool:
    """Whether one part of a path begins with a dot that says so, or is the folder in which Macs pack such files."""
    return (part.startswith(".") and part not in (".", "..")) or part == "__MACOSX"


def told(passed_over: Mapping[str, int]) -> str:
    """Return for people what was passed over, by reason: "3 hidden, 20 .json"; "" if nothing was."""
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(passed_over.items()))
