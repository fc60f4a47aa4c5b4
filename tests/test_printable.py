"""Text that is not ours, wherever it comes out: on terminals, in CSV, in hints."""

from __future__ import annotations

import csv
import io
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import csv as arrow_csv

from infoae.cli import options
from infoae.data.shard_writer import write_classes
from infoae.deploy.formats import Csv, safe_text
from infoae.errors import printable
from infoae.reporting.bars import Bar
from infoae.reporting.tables import print_table
from infoae.results import TrainingResult
from infoae.runs.run import Run
from tests.helpers.commands import call, run

ODD = st.text(st.characters() | st.sampled_from("\x1b\n\r\t\x07\x85\u202e\u2028=+-@[]/\"',"), max_size=12)
PLAIN = ODD.filter(lambda text: not any("\ud800" <= letter <= "\udfff" for letter in text))


@given(ODD)
def test_printable_text_is_one_line_that_moves_nothing(text: str) -> None:
    found = printable(text)
    assert found.replace("\u3000", "").replace("\xa0", "").isprintable() or all(ord(c) >= 32 for c in found)
    assert len(found.splitlines()) <= 1
    assert not set(found) & set("\x1b\n\r\t\x07\x85\u202e\u2028")
    assert printable(found) == found
    found.encode()  # no half of a pair


@given(st.lists(PLAIN, min_size=1, max_size=5))
def test_csv_cells_are_what_safe_text_makes_and_raw_ones_what_they_were(texts: list[str]) -> None:
    rows = pa.RecordBatch.from_pydict({"path": pa.array([*texts, None]), "label": pa.array([1] * (len(texts) + 1))})
    for form, expected in ((Csv(), [safe_text(text) for text in texts]), (Csv(raw=True), texts)):
        file = io.BytesIO()
        file.write(form.header(rows.schema))
        form.write(file, [rows])
        file.seek(0)
        if "\x00" in "".join(expected):
            continue  # neither reader takes it
        read = list(csv.reader(io.StringIO(file.getvalue().decode(), newline="")))
        assert [row[0] for row in read[1:]] == [*expected, ""]
    assert not any(safe_text(text).startswith(("=", "+", "-", "@", "\t", "\r")) for text in texts)


def test_safe_csv_reads_as_arrow_writes_it() -> None:
    rows = pa.RecordBatch.from_pydict({"path": ['=HYPERLINK("http://x")', "a\x1b[2Jb\nc", "é 木.png"]})
    file = io.BytesIO()
    Csv().write(file, [rows])
    file.seek(0)
    read = arrow_csv.read_csv(file, arrow_csv.ReadOptions(column_names=["path"]))
    assert read["path"].to_pylist() == ['\'=HYPERLINK("http://x")', "a\\x1b[2Jb\\nc", "é 木.png"]


@given(st.lists(PLAIN, min_size=1, max_size=3))
def test_tables_bars_and_lines_show_any_text_as_text(texts: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        out = io.StringIO()
        patched.setattr("sys.stdout", out)
        patched.setattr("sys.stderr", out)
        patched.setenv("COLUMNS", "2000")
        print_table(texts[0], texts, [texts])
        with Bar("label", "units") as bar:
            bar.say(texts[0])
        options.echo(*texts)
    shown = out.getvalue()
    assert not set(shown) & set("\x1b\r\t\x07\x85\u202e\u2028")
    assert shown.splitlines()[-len(texts) :] == [printable(text) for text in texts]


def test_markup_in_the_name_of_a_folder_is_its_name(tmp_path: Path) -> None:
    out = call("train", "--dry-run", "--config", "[red]x[/blue]", cwd=tmp_path)
    assert out.returncode == 2
    assert "[red]x[/blue]" in out.stderr
    assert out.stderr.count("\n") == 1


def test_a_class_with_a_line_end_is_one_line(tmp_path: Path) -> None:
    write_classes(tmp_path, np.array([0, 1], np.int32), ["a\nb", "c"])
    assert (tmp_path / "classes.txt").read_text() == "a\\nb\nc\n"


def test_hints_can_be_typed_where_the_command_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, extra in ((tmp_path / "runs", []), (tmp_path / "my [runs]", ["--runs", str(tmp_path / "my [runs]")])):
        assert shlex.split(Run(folder / "r").command("evaluate")) == ["infoae", "evaluate", "r", *extra]
        stopped = TrainingResult("r", str(folder / "r"), finished=False, step=1, total_steps=2, seconds=1.0)
        assert stopped.describe()[0].endswith(Run(folder / "r").command("train", "--resume"))


@pytest.mark.parametrize("where", ["option", "variable"])
def test_a_path_that_begins_with_the_home_folder_is_in_it(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    if where == "variable":
        monkeypatch.setenv("INFOAE_RUNS", "~/runs")
    out = call("evaluate", "none", *(["--runs=~/runs"] if where == "option" else []), cwd=tmp_path)
    assert str(tmp_path / "home" / "runs") in out.stderr
    assert "~" not in out.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_help_and_errors_come_out_in_any_terminal(encoding: str, tmp_path: Path) -> None:
    for arguments, code in ((["train", "--help"], 0), (["config", "show", "木\udcff"], 2)):
        done = run(*arguments, cwd=tmp_path, PYTHONIOENCODING=encoding, LC_ALL="C.UTF-8")
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr


def test_a_list_may_begin_with_the_mark_of_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    from infoae.inputs.sources import Listing

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfa.png\r\nb.png\n")))
    assert [block.keys for block in Listing().blocks(10)] == [["a.png", "b.png"]]
