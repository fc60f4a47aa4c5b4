"""Commands, as a user types them and in this process."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from infoae.cli.app import app
from infoae.cli.main import main
from tests.helpers.settings import TINY

COMMAND = [sys.executable, "-c", "from infoae.cli.main import main; main()"]
SETTINGS = [part for setting in TINY for part in ("--set", setting)]


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run infoae in its own process, as the shell would."""
    return subprocess.run(
        [*COMMAND, *arguments], cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=300
    )


def call(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run infoae as `run` does, but in this process: torch takes seconds to import."""
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(stdout), redirect_stderr(stderr):
        patched.chdir(cwd)
        patched.setattr(sys, "argv", ["infoae", *arguments])
        for name, value in environment.items():
            patched.setenv(name, value)
        stops = signal.getsignal(signal.SIGTERM)
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        finally:
            signal.signal(signal.SIGTERM, stops)
    return subprocess.CompletedProcess(arguments, code, stdout.getvalue(), stderr.getvalue())


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))
