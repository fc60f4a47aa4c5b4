"""Rows come back from every format as they went in."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from infoae.deploy import sinks
from infoae.deploy.bundle import Manifest
from infoae.deploy.classifier import Answers
from infoae.deploy.formats import FORMATS
from infoae.deploy.reference import Counts
from infoae.deploy.rows import RowFormat
from infoae.deploy.sinks import KeyDigest, format_of, open_file
from infoae.errors import UsageError
from tests.helpers.bundles import LATENT
from tests.helpers.results import JOB, LATENTS, PROBABILITIES, manifest_in, read, write


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return manifest_in(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("ending", FORMATS)
def test_rows_come_back(tmp_path: Path, manifest: Manifest, ending: str) -> None:
    path = tmp_path / "new" / f"result{ending}"
    write(path, RowFormat.parse(manifest, None, latent=True), [['a,"b\n', "bad é"], ["c"], ["bad"]])
    first, second, third, fourth = read(path)
    nothing = "" if ending == ".csv" else None
    number = (lambda value: float(value)) if ending == ".csv" else lambda value: value
    assert [row["path"] for row in (first, second, third, fourth)] == [
        'a,"b\\n' if ending == ".csv" else 'a,"b\n',
        "bad é",
        "c",
        "bad",
    ]
    assert number(first["label"]) == 1
    assert first["name"] == "one, two"
    assert number(first["confidence"]) == pytest.approx(0.6)
    assert number(first["top2_label"]) == 2
    assert number(first["top2_confidence"]) == pytest.approx(0.3)
    assert first["error"] == third["error"] == nothing
    assert number(third["label"]) == 1
    for row in (second, fourth):
        assert row["error"] == "broken"
        assert {row[name] for name in ("label", "name", "confidence", "top2_label")} == {nothing}
    if ending == ".csv":
        assert [float(first[f"latent_{index}"]) for index in range(LATENT)] == LATENTS[0].tolist()
        assert second["latent_0"] == ""
    else:
        assert first["latent"] == LATENTS[0].tolist()
        assert second["latent"] is None
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_columns_asked_for_in_their_order(tmp_path: Path, manifest: Manifest) -> None:
    rows = RowFormat.parse(manifest, "top3_name, path,label,top1_label", latent=False)
    write(tmp_path / "x.jsonl", rows, [["a", "b"]])
    assert [list(row.items()) for row in read(tmp_path / "x.jsonl")] == [
        [("top3_name", "zero"), ("path", "a"), ("label", 1), ("top1_label", 1)],
        [("top3_name", 'th"ree'), ("path", "b"), ("label", 0), ("top1_label", 0)],
    ]


@pytest.mark.parametrize("columns", ["", "paths", "top4_label", "top0_label", "path,path", "latent", "top2_path"])
def test_columns_that_do_not_exist(manifest: Manifest, columns: str) -> None:
    with pytest.raises(UsageError, match="column"):
        RowFormat.parse(manifest, columns, latent=False)


def test_an_unknown_ending() -> None:
    with pytest.raises(UsageError, match=r"--out x\.txt: end it in \.csv, \.jsonl, \.parquet"):
        format_of(Path("x.txt"))


def test_a_digest_is_of_the_keys_however_they_are_cut_into_blocks() -> None:
    def digest(*blocks: list[str]) -> str:
        found = KeyDigest()
        for keys in blocks:
            found.update(keys)
        return found.hexdigest()

    assert digest(["a", "b"], ["c"]) == digest([], ["a"], [], ["b", "c"], [])
    assert len({digest(["a", "b"]), digest(["ab"]), digest(["b", "a"]), digest(["a"]), digest([""]), digest()}) == 6


@pytest.mark.parametrize(("seconds", "expected"), [(1e9, [0, 0, 1, 1, 1, 2]), (0.0, [1, 2, 3, 4, 5, 6])])
def test_a_part_is_stored_when_it_is_large_or_old(
    seconds: float, expected: list[int], tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "PART_ROWS", 3)
    monkeypatch.setattr(sinks, "PART_SECONDS", seconds)
    rows, path = RowFormat.parse(manifest, "path", latent=False), tmp_path / "x.csv"
    with open_file(path, format_of(path), rows.schema, JOB, resume=False) as sink:
        stored = []
        for key in "abcdef":
            sink.write(rows.batch([key], Answers(PROBABILITIES[:1], LATENTS[:1]), [None]), [key], 0, Counts())
            stored.append(len(sink.parts))
    assert stored == expected
    assert [row["path"] for row in read(path)] == list("abcdef")


def test_rows_are_on_standard_output_at_once(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads them need not wait for a buffer to fill."""

    class Seen(io.RawIOBase):
        content = b""

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.content += bytes(data)
            return len(data)

    seen, rows = Seen(), RowFormat.parse(manifest, "path", latent=False)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(seen)))
    sink = sinks.StandardOutput(FORMATS[".csv"], rows.schema)  # type: ignore[arg-type]
    assert seen.content == b'"path"\n'
    sink.write(rows.batch(["a"], Answers(PROBABILITIES[:1], LATENTS[:1]), [None]), ["a"], 0, Counts())
    assert seen.content == b'"path"\n"a"\n'
