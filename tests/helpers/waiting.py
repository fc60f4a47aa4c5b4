"""Waiting for what another process or thread does."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any


def wait_until(
    there: Callable[[], object], *, process: subprocess.Popen[Any] | None = None, seconds: float = 200
) -> None:
    """Wait until `there` is true. Fails after so many seconds, or once the process that is to do it has ended."""
    end = time.monotonic() + seconds
    while not there():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < end, f"waited for {seconds:g} seconds"
        time.sleep(0.02)
