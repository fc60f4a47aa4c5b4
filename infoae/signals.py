"""What Ctrl-C and SIGTERM mean to long work."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType


@contextmanager
def stop_on_signal(say: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a wish to stop after the step; a second one interrupts at once.

    In another than the main thread there is none: only that one is told of signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    wanted = told = False

    def tell() -> None:
        nonlocal told
        with suppress(RuntimeError):  # the signal came while a message was being written, which cannot be entered anew
            say("stopping after this step and saving; again to stop without saving")
            told = True

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal wanted
        if wanted:
            raise KeyboardInterrupt
        wanted = True
        tell()

    def is_wanted() -> bool:
        if wanted and not told:
            tell()
        return wanted

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield is_wanted
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def keeping_sigterm() -> Iterator[None]:
    """Let SIGTERM be Ctrl-C in the block, and after it what it was before: Ray takes it, and exits with its number."""
    previous = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, previous)
