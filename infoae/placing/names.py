"""Names of folders that any file system takes, and a place of its own for each file of a folder."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable

UNSURE = "unsure"
"""The folder of pictures whose category is not sure enough."""
MAX_FOLDER_BYTES = 200
"""Of UTF-8, in a folder's name: file systems take 255, and a number has to fit behind it."""
MAX_NAME_BYTES = 255
"""Of a file's name."""

# Those of Windows, which are the union of what any file system refuses, and what shows as nothing or as something else.
_REFUSED = re.compile('[/\\\\:*?"<>|\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]')
_UNSEEN = ("Cc", "Cs", "Zl", "Zp")
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\..*)?", re.IGNORECASE)


def safe(name: str) -> str:
    """Return a category's name as that of a folder which every file system takes; a safe one is returned as it is.

    What is refused or cannot be seen becomes "_", and so does a dot in front, which would hide the folder. Names that
    Windows reserves get a "_" in front. At most MAX_FOLDER_BYTES are kept.
    """
    name = unicodedata.normalize("NFC", name)
    name = "".join("_" if unicodedata.category(letter) in _UNSEEN else letter for letter in _REFUSED.sub("_", name))
    name = name.strip()
    if name.startswith("."):
        name = "_" + name[1:]
    if _RESERVED.fullmatch(name):
        name = "_" + name
    return re.sub(r"[.\s]+$", "", _cut(name, MAX_FOLDER_BYTES)) or "_"


def folders(categories: Iterable[str]) -> dict[str, str]:
    """Return the folder of each category; those that would share one, or take that of UNSURE, get a number behind it.

    Which of them has none does not depend on the order: it is one whose name is safe as it is, if there is one.
    """
    places = Places([UNSURE])
    return {
        name: places.take(safe(name)) for name in sorted(set(categories), key=lambda name: (name != safe(name), name))
    }


class Places:
    """The names that are taken in one folder, told apart as the least careful file system does: not by case."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {_alike(name) for name in taken}
        self._next: dict[str, int] = {}

    def take(self, name: str) -> str:
        """Return `name`, or if that is taken `name (2)`, `name (3)`, …, the number before the suffix; it is taken now.

        A name is cut where it would have more than MAX_NAME_BYTES.
        """
        stem, suffix = os.path.splitext(name)  # noqa: PTH122  a path for each of many names is slow
        number = self._next.get(_alike(name), 1)
        given = name
        while _alike(given) in self._taken:
            number += 1
            end = f" ({number}){suffix}"
            given = _cut(stem, MAX_NAME_BYTES - len(os.fsencode(end))) + end
        self._next[_alike(name)] = number
        self._taken.add(_alike(given))
        return given


def _alike(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _cut(text: str, size: int) -> str:
    """Return as much of the beginning as has at most `size` bytes."""
    return os.fsencode(text)[: max(size, 0)].decode("utf-8", "ignore") if len(os.fsencode(text)) > size else text
