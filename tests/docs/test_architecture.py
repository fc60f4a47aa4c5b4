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


def test_every_module_is_on_one_page_of_the_reference() -> None:
    """All but the commands, which have a page of their own."""
    found = {path.relative_to(ROOT) for path in (ROOT / "infoae").rglob("*.py")}  # not through infoae's links
    found |= {"infoae" / path.relative_to(ROOT) for path in (ROOT / "deploy").rglob("*.py")}
    modules = {".".join(path.with_suffix("").parts) for path in found if path.name not in ("__init__.py", "version.py")}
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs/api").glob("*.md"))
    assert sorted(re.findall(r"^::: (\S+)$", pages, flags=re.MULTILINE)) == sorted(modules)
