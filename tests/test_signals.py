"""Ctrl-C and SIGTERM, whenever they come."""

from __future__ import annotations

import io
import os
import signal
from typing import Any

from infoae.signals import stop_on_signal


class Interrupting(io.RawIOBase):
    """A stream on which the first message is interrupted by Ctrl-C."""

    def __init__(self) -> None:
        self.written = b""

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]  # of what BufferedWriter gives
        if not self.written:
            os.kill(os.getpid(), signal.SIGINT)
        self.written += bytes(data)
        return len(data)


def test_a_signal_in_the_middle_of_a_message_is_told_after_it() -> None:
    """A buffered stream cannot be written to while it is being written to."""
    raw: Any = Interrupting()
    stream = io.TextIOWrapper(io.BufferedWriter(raw), line_buffering=True)
    with stop_on_signal(lambda text: print(text, file=stream, flush=True)) as wanted:
        assert not wanted()
        print("step 1", file=stream, flush=True)
        assert wanted()
        assert wanted()
    told = raw.written.decode()
    assert told.startswith("step 1\n")
    assert told.count("stopping after this step and saving") == 1
