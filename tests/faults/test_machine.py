"""What the machine refuses is one line with the path and an exit code, whoever says it; and so are closed streams."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from infoae.cluster import driver, worker
from infoae.errors import InfoAEError, MachineError, UnavailableError, machine_errors
from infoae.signals import keeping_sigterm
from tests.helpers.commands import COMMAND, call

PASSING = {"ECONNRESET", "ECONNREFUSED", "ECONNABORTED", "ETIMEDOUT", "EIO", "ESTALE", "EAGAIN"}


@pytest.mark.parametrize("code", sorted(set(errno.errorcode) - {errno.EPIPE, errno.ESHUTDOWN, errno.EINTR}))
def test_every_error_of_the_system_is_one_line_with_its_path(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise OSError(code, os.strerror(code), str(tmp_path / "x"))

    monkeypatch.setattr("infoae.cli.app.app", fail)
    told = call("train", cwd=tmp_path)
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr == f"error: {os.strerror(code)}: {tmp_path}/x\n"
    with pytest.raises(InfoAEError) as caught, machine_errors():
        fail()
    if errno.errorcode[code] in PASSING:
        assert isinstance(caught.value, UnavailableError)
    elif code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR):
        assert isinstance(caught.value, MachineError)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (SafetensorError("I/O error: No space left on device (os error 28)"), "No space left on device: I/O error"),
        (RuntimeError("failed: [Errno 27] File too large"), "File too large: failed"),
        (MemoryError("Unable to allocate 8 TiB"), r"not enough memory \(Unable to allocate 8 TiB\)"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "not enough memory"),
    ],
)
def test_its_disguises_are_one_line_too(error: Exception, line: str) -> None:
    with pytest.raises(InfoAEError, match=line), machine_errors():
        raise error
    with pytest.raises(InfoAEError, match=line), machine_errors():
        raise ValueError("of a library") from error


def test_an_error_of_ours_or_of_the_code_stays_as_it_is() -> None:
    for error in (InfoAEError("plain"), ValueError("a mistake"), BrokenPipeError(), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, machine_errors():
            raise error
        assert caught.value is error


def test_workers_are_not_started_again_for_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "metrics.jsonl")

    monkeypatch.setattr(worker, "_work", full)
    with pytest.raises(MachineError, match=r"No space left on device: metrics\.jsonl") as caught:
        worker.work({})
    with pytest.raises(MachineError):  # which is how Ray Train is told to give up
        driver._OnLoss(None).after_exception(None, {0: caught.value})


def shell(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", line], cwd=cwd, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("where", "reason"), [(">&-", "Bad file descriptor"), (">/dev/full", "No space left on device")]
)
def test_a_result_that_cannot_be_printed_is_told(where: str, reason: str, tmp_path: Path) -> None:
    told = shell(f"{shlex.join(COMMAND)} config show {where}", tmp_path)
    assert (told.returncode, told.stderr) == (1, f"error: {reason}: standard output\n")


@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full"])
def test_a_message_that_cannot_be_printed_changes_nothing(where: str, tmp_path: Path) -> None:
    assert shell(f"{shlex.join(COMMAND)} config validate mnist {where}", tmp_path).stdout == "mnist is valid\n"
    refused = shell(f"{shlex.join(COMMAND)} config show none {where}", tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")


def test_a_reader_that_has_enough_is_no_traceback(tmp_path: Path) -> None:
    told = shell(f"{shlex.join(COMMAND)} config schema | head -c 1", tmp_path)
    assert (told.stdout, told.stderr) == ("{", "")


def test_sigterm_is_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def verb(**_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    monkeypatch.setattr("infoae.cli.app.app", verb)
    told = call("evaluate", cwd=tmp_path)
    assert (told.returncode, told.stderr) == (130, "error: interrupted\n")


def test_sigterm_stays_ctrl_c_where_ray_takes_it() -> None:
    def ray_init(*, killed: bool) -> None:
        signal.signal(signal.SIGTERM, lambda number, _: (_ for _ in ()).throw(SystemExit(number)))
        if killed:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for killed in (False, True):
            try:
                with keeping_sigterm():
                    ray_init(killed=killed)
            except KeyboardInterrupt:
                assert killed
            assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)
