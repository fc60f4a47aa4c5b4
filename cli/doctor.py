"""infoae doctor."""

from __future__ import annotations

from typing import Any

import typer

from infoae.cli.options import JsonOption, echo, print_json


def doctor(as_json: JsonOption = False) -> None:
    """Say what infoae runs on here, what is missing, and how to mend it.

    Exit code 0: nothing is missing; 1: something is.
    """
    from infoae import doctor as examination

    found, problems = examination.examine()
    if as_json:
        print_json({**found, "problems": problems})
    else:
        _print(found, problems)
    if problems:
        raise typer.Exit(1)


def _print(found: dict[str, Any], problems: list[str]) -> None:
    for section, content in found.items():
        echo(f"{section}:")
        for key, value in content.items():
            echo(f"  {key}: {'not installed' if value is None else value}")
    echo("problems:" if problems else "no problems")
    for problem in problems:
        echo(f"  {problem}")
