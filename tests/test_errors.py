"""What another library says, as one line inside a message of ours."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from infoae.errors import LINE_LENGTH, one_line


@pytest.mark.parametrize(
    ("error", "line", "first"),
    [
        (ValueError("plain"), "plain", "plain"),
        (ValueError("  one\n  two,\tthree\n"), "one two, three", "one"),
        (ValueError(), "ValueError", "ValueError"),
        (ValueError(" \n"), "ValueError", "ValueError"),
        (OSError(28, "No space left on device", "x.csv"), "No space left on device", "No space left on device"),
        (OSError("not of the system"), "not of the system", "not of the system"),
    ],
)
def test_any_error_is_one_line(error: Exception, line: str, first: str) -> None:
    assert one_line(error) == line
    assert one_line(error, first=True) == first


def test_a_long_text_is_cut() -> None:
    line = one_line(ValueError("word " * 1000))
    assert len(line) == LINE_LENGTH
    assert line.startswith("word word")
    assert line.endswith("…")
    assert one_line(ValueError("x" * LINE_LENGTH)) == "x" * LINE_LENGTH


def test_the_same_fault_reads_the_same_on_every_run() -> None:
    with pytest.raises(OSError, match=" at 0x") as caught:
        Image.open(io.BytesIO(b"nonsense"))
    assert one_line(caught.value) == "cannot identify image file <_io.BytesIO object>"
