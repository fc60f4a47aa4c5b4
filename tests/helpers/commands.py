"""Commands, as a user types them and in this process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner, Result

from infoae.cli.main import app
from tests.helpers.settings import TINY

COMMAND = [sys.executable, "-c", "from infoae.cli.main import main; main()"]
SETTINGS = [part for setting in TINY for part in ("--set", setting)]


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run infoae in its own process, as the shell would."""
    return subprocess.run(
        [*COMMAND, *arguments], cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=300
    )


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))
