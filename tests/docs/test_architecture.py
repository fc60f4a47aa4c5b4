"""docs/architecture.md says what the tree is."""

from __future__ import annotations

import re

from infoae.runs.run import CONTENTS
from tests.helpers.paths import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_every_file_of_a_run_is_in_the_table_and_nothing_else() -> None:
    section = PAGE.partition("## A run's folder")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", section, flags=re.MULTILINE))
    assert rows == CONTENTS


def test_every_room_and_module_of_the_spine_is_in_the_table() -> None:
    table = PAGE.partition("## Where a new thing goes")[0]
    package = ROOT / "infoae"
    rooms = {f"{path.name}/" for path in package.iterdir() if (path / "__init__.py").exists()}
    modules = {path.name for path in package.glob("*.py")} - {"__init__.py", "version.py"}
    ground = table.partition("| ground |")[2].partition("\n")[0]
    missing = {name for name in rooms | modules if f"`{name}`" not in table and f"`{name[:-3]}`" not in ground}
    assert not missing
