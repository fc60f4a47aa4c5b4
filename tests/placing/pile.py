"""Pictures to be placed."""

from __future__ import annotations

import os
from pathlib import Path

from infoae.placing import place as placing
from infoae.placing.place import Preview, Row
from infoae.placing.transfer import How, Stamp
from tests.placing.killing import tree


class Pile:
    """Pictures, and where they go."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.source, self.into, self.journal = root / "photos", root / "sorted", root / "journal"
        self.rows: list[Row] = []

    def add(self, name: str, category: str, content: bytes | None = None, unsure: bool = False) -> Path:
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name) if content is None else content)
        os.utime(path, ns=(1, 1_700_000_000_123_456_789))
        self.rows.append(Row(path, category, unsure, Stamp.of(path)))
        return path

    def planned(self, how: How = "copy") -> Preview:
        return placing.planned(self.rows, self.into, how, self.journal, [self.source])

    def place(self, how: How = "copy") -> placing.Outcome:
        return placing.place(self.planned(how))

    def names(self) -> list[str]:
        return sorted(tree(self.into))
