"""The guard of speed: ratios are found in what programs write, and too low ones are named."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import check

PROGRAM = "import sys; from pathlib import Path; Path(sys.argv[2]).write_text(Path(sys.argv[1]).read_text())"


@pytest.fixture
def guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that runs the guard where a program writes these ratios."""
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [str(tmp_path / "program.py"), str(tmp_path / "content.json")]
    monkeypatch.setattr(check, "PROGRAMS", {"fake": command})

    def run(ratios: list[float], *options: str) -> int:
        (tmp_path / "content.json").write_text(json.dumps({"ratios": ratios, "seconds": ratios}))
        monkeypatch.setattr(sys, "argv", ["check.py", "--file", str(tmp_path / "ratios.json"), *options])
        return check.main()

    return run


def test_ratios_are_found_wherever_they_are() -> None:
    content = {
        "one worker": {"ratios": [1.0, 1.0], "seconds": 3},
        "two": {"ratios": [1.5, 1.7], "sizes": [1, 2]},
        "two that do not talk": {"ratios": [1.9, 2.0]},
        "speed": [{"recipe": "mnist", "stage": "last", "ways": {"processes": {"shares_of_peak": [0.3, 0.4]}}}],
    }
    assert dict(check.ratios_in(content, "it")) == {
        "it two ratios": [1.5, 1.7],
        "it speed mnist last ways processes shares_of_peak": [0.3, 0.4],
    }


def test_a_ratio_may_fall_by_twice_its_spread_and_by_15_percent(guard: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert guard([5.0, 5.0, 5.0], "--write") == 0
    assert capsys.readouterr().out == "fake ratios: 5, too low below 4.25\n"
    assert guard([4.3, 4.3, 4.3]) == 0
    assert capsys.readouterr().out == "none of 1 ratios is lower than it was\n"
    assert guard([4.2, 4.2, 9.0]) == 1
    line = capsys.readouterr().out
    assert line.startswith("fake ratios: 4.2, committed 5, below 4.25: python ")
    assert line.count("\n") == 1
    assert guard([4.0, 5.0, 6.0], "--write") == 0
    assert capsys.readouterr().out == "fake ratios: 5, too low below 3\n"  # a deviation of 1
    assert guard([3.1, 3.1, 3.1]) == 0
    assert guard([2.9, 2.9, 2.9]) == 1


def test_a_ratio_that_is_not_measured_any_more_is_named() -> None:
    lines = list(check.slower({"train ratios": {"value": 2.0, "spread": 0.1}}, {}))
    assert len(lines) == 1
    assert "not measured any more: python benchmarks/train.py" in lines[0]


def test_nothing_is_compared_with_another_machine(
    guard: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    guard([5.0], "--write")
    capsys.readouterr()
    here = check.features()
    assert {"bf16", "amx", "avx512"} <= here.keys()
    monkeypatch.setattr(check, "features", lambda: here | {"amx": not here["amx"]})
    assert guard([1.5]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("nothing compared: ")
    assert shown.count("\n") == 1


def test_a_missing_file_and_a_failing_program_end_it(guard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="bench-check --write makes it"):
        guard([5.0])
    monkeypatch.setattr(check, "PROGRAMS", {"fake": ["-c", "raise SystemExit(3)"]})
    with pytest.raises(SystemExit, match="exit code 3"):
        guard([5.0], "--write")


def test_the_programs_exist_and_take_these_options() -> None:
    """`--help` reads the options before it; one that is not there is an error first."""
    for program in ("train", "scaling"):
        path, *options = check.PROGRAMS[program]
        source = (check.ROOT / path).read_text(encoding="utf-8")
        assert [option for option in options if option.startswith("--") and f'"{option}"' not in source] == []
