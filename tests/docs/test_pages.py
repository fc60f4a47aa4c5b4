"""The pages: tables are the committed results, links and commands lead somewhere, lines can be read."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.core
import typer.main

from infoae.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [path for path in (ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md") if path.exists()]
PAGES += sorted((ROOT / "docs").glob("*.md"))
LAB_NOTES, RENAMED = ROOT / "docs/lab-notes.md", ROOT / "docs/config-keys.md"
DIARY = re.compile(r"as it was|before the quarter|not kept|a day before|the day before|at first", re.IGNORECASE)
EARLIER_KEYS = re.compile(
    r"information\.(pairs|neighbours|merging|blur|search|distortion|agreement|certain_links|settle_every|epochs"
    r"|consensus_epochs)|game_part|least_steps|weights\.(information|consensus)"
)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


def tables(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [sys.executable, "-m", "benchmarks.pages", "--root", str(root), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """README, the pages and the results, to be changed."""
    shutil.copy(ROOT / "README.md", tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("*.png"))
    return tmp_path


def test_tables_are_those_of_the_committed_results() -> None:
    done = tables(ROOT, "--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("page", "table"), [("README.md", "readme"), ("docs/results.md", "mnist")])
def test_a_changed_figure_is_stale_and_written_again(copy: Path, page: str, table: str) -> None:
    text = (copy / page).read_text(encoding="utf-8")
    start = text.index(f"<!-- table: {table} -->")
    (copy / page).write_text(text[:start] + text[start:].replace("0.961", "0.962", 1), encoding="utf-8")
    done = tables(copy, "--check")
    assert done.returncode == 1
    assert done.stdout == f"{page}: table {table} is stale: run python -m benchmarks.pages\n"
    assert tables(copy).returncode == 0
    assert (copy / page).read_text(encoding="utf-8") == text


def test_a_changed_result_makes_its_tables_stale(copy: Path) -> None:
    path = copy / "docs/results/mnist/summary.json"
    summary = json.loads(path.read_text(encoding="utf-8"))
    summary["measures"]["accuracy"]["mean"] -= 0.001
    path.write_text(json.dumps(summary), encoding="utf-8")
    stale = re.findall(r"(\S+): table (\S+) is stale", tables(copy, "--check").stdout)
    page = "docs/results.md"
    assert stale == [("README.md", "readme"), (page, "claims"), (page, "mnist"), ("docs/speed.md", "peers")]


def test_a_command_that_differs_from_its_result_is_refused(copy: Path) -> None:
    path = copy / "docs/results/sources.json"
    path.write_text(path.read_text(encoding="utf-8").replace("--seeds 150-159", "--seeds 150"), encoding="utf-8")
    done = tables(copy, "--check")
    assert done.returncode == 1
    assert "sources.json says 'infoae reproduce mnist --seeds 150'" in done.stderr


def test_an_unknown_table_and_an_open_one_are_refused(copy: Path) -> None:
    page = copy / "docs/results.md"
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("<!-- table: mnist -->", "<!-- table: mnits -->"), encoding="utf-8")
    assert "there is no table 'mnits'" in tables(copy, "--check").stderr
    page.write_text(text[: text.rindex("<!-- end -->")], encoding="utf-8")
    assert "has no <!-- end -->" in tables(copy, "--check").stderr


def test_every_result_says_how_it_was_made() -> None:
    results = ROOT / "docs/results"
    sources = json.loads((results / "sources.json").read_text(encoding="utf-8"))
    named = {file for source in sources.values() for file in source["files"]}
    assert [file for file in named if not (results / file).exists()] == []
    kept = {str(path.relative_to(results)) for path in results.glob("**/summary.json")} | {
        path.name for path in results.glob("*.json") if path.name != "sources.json"
    }
    assert kept - named == set()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_lines_can_be_read(path: Path) -> None:
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    prose = [(number, line) for number, line in lines if not line.lstrip().startswith("|") and "http" not in line]
    assert [(number, len(line)) for number, line in prose if len(line) > 120] == []


@pytest.mark.parametrize("path", [page for page in PAGES if page != LAB_NOTES], ids=lambda path: path.name)
def test_pages_are_no_diary(path: Path) -> None:
    assert DIARY.findall(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "path", [page for page in PAGES if page not in (LAB_NOTES, RENAMED)], ids=lambda path: path.name
)
def test_pages_have_the_configuration_keys_of_today(path: Path) -> None:
    assert [found[0] for found in EARLIER_KEYS.finditer(path.read_text(encoding="utf-8"))] == []


def test_lab_notes_are_entries_newest_first() -> None:
    entries = re.split(r"^## ", LAB_NOTES.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    days = []
    for entry in entries:
        title = re.match(r"(\d{4}-\d\d-\d\d) · .+\? \S", entry)
        assert title, entry[:100]
        days.append(title[1])
        parts = re.findall(r"^\*\*(Question|Tried|Result|Decision)\.\*\*", entry, flags=re.MULTILINE)
        assert parts == ["Question", "Tried", "Result", "Decision"], entry[:100]
    assert days == sorted(days, reverse=True)


def slugs(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings_that_are_there(path: Path) -> None:
    for target, anchor in LINK.findall(path.read_text(encoding="utf-8")):
        file = (path.parent / target).resolve() if target else path
        assert file.exists(), target
        if anchor:
            assert anchor in slugs(file), f"{target}#{anchor}"


@pytest.mark.parametrize("path", [page for page in PAGES if page != LAB_NOTES], ids=lambda path: path.name)
def test_files_of_the_project_that_pages_name_are_there(path: Path) -> None:
    named = re.findall(
        r"`((?:infoae|cli|deploy|configs|tests|benchmarks|docs)/[\w./-]+)`", path.read_text(encoding="utf-8")
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_two_commands_that_ci_reads_are_one_line_each() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for marker in ("train", "test"):
        block = re.search(rf"<!-- {marker} -->\n```bash\n(.*?)```", text, re.DOTALL)
        assert block, marker
        assert block[1].count("\n") == 1
        assert block[1].startswith("python3 -m venv .venv && .venv/bin/pip install")


def commands(path: Path) -> list[list[str]]:
    """The words of every `infoae` command on a page, in a block of code or within a sentence; comments are left out."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for block in re.findall(r"```\w*\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    lines += re.findall(r"`(infoae [a-z][^`]*)`", text)
    found = (re.search(r"(?:^|[|/] ?)infoae ([a-z][^|&>#]*)", line) for line in lines)
    return [shlex.split(match[1]) for match in found if match]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_and_their_options_exist(path: Path) -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    for words in commands(path):
        verb = group.commands.get(words[0])
        if isinstance(verb, typer.core.TyperGroup):
            verb = verb.commands.get(words[1]) if len(words) > 1 else verb
        assert verb is not None, words
        options = {option for parameter in verb.params for option in parameter.opts}
        given = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert given - options == set(), words
