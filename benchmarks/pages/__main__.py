"""The command: python -m benchmarks.pages [--check]."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from benchmarks.pages.results import Results
from benchmarks.pages.tables import TABLES

BLOCK = re.compile(r"<!-- table: (?P<name>[\w-]+) -->\n(?P<body>.*?)<!-- end -->", re.DOTALL)


def rewritten(text: str, results: Results) -> tuple[str, list[str]]:
    """Return a page with its tables made anew, and the names of those that had said something else."""
    stale: list[str] = []

    def made(block: re.Match[str]) -> str:
        name = block["name"]
        if name not in TABLES:
            raise SystemExit(f"there is no table {name!r}; there are {', '.join(sorted(TABLES))}")
        fresh = f"<!-- table: {name} -->\n" + "\n".join(TABLES[name](results)).rstrip("\n") + "\n<!-- end -->"
        if fresh != block[0]:
            stale.append(name)
        return fresh

    if text.count("<!-- table:") != len(BLOCK.findall(text)):
        raise SystemExit("a <!-- table: NAME --> has no <!-- end -->")
    return BLOCK.sub(made, text), stale


def main() -> int:
    """Rewrite or check; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description="Tables from committed results.")
    parser.add_argument("--check", action="store_true", help="change nothing; name the tables that are stale")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[2], help="the repository")
    arguments = parser.parse_args()
    results = Results(arguments.root / "docs" / "results")
    found: list[str] = []
    for page in [arguments.root / "README.md", *sorted((arguments.root / "docs").glob("*.md"))]:
        name = page.relative_to(arguments.root)
        text, stale = rewritten(page.read_text(encoding="utf-8"), results)
        found += stale
        for table in stale:
            print(
                f"{name}: table {table} "
                + ("is stale: run python -m benchmarks.pages" if arguments.check else "written")
            )
        if stale and not arguments.check:
            page.write_text(text, encoding="utf-8")
    return int(arguments.check and bool(found))


if __name__ == "__main__":
    sys.exit(main())
