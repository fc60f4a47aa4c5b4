"""Wrong commands, made from the command line's own description: each verb, each option, each kind of wrong value.

Each has to end with a code that is not 0 and one line that says what is wrong, in little time and memory.
"""

from __future__ import annotations

import inspect
import random
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import typer.main

from infoae.cli.app import app
from tests.helpers.commands import call

SAMPLE = 12
MOST_SECONDS = 60.0
"""Of the processor, for one command; the first of them imports PyTorch."""
MOST_KILOBYTES = 1_500_000
"""That this process may grow by over all commands, the libraries among them."""

# A verb's other arguments. All verbs but train need a model, run or recipe that is not there, so nothing is begun.
BASES: dict[str, list[str]] = {
    "sort": ["nosuch"],
    "convert": ["nosuch.png", "--out", "shards", "--size", "28"],
    "train": ["--config", "smoke", "--dry-run"],
    "reproduce": ["nosuch"],
    "tune": ["--config", "nosuch"],
    "status": ["nosuch"],
    "evaluate": ["nosuch"],
    "figures": ["nosuch"],
    "gallery": ["nosuch"],
    "correct": ["nosuch", "nosuch.json"],
    "name": ["nosuch", "--labels", "nosuch.txt"],
    "export": ["nosuch", "--onnx"],
    "classify": ["nosuch.png", "--model", "nosuch"],
    "generate": ["--model", "nosuch", "--out", "made"],
    "augment": ["nosuch.png", "--model", "nosuch", "--out", "made"],
    "config show": ["nosuch"],
    "config validate": ["nosuch"],
}
TEXTS = {
    "empty": "",
    "words": "no such thing",
    "markup": "[red]x[/blue]",
    "control": "\x1b[2Jx\ny\r\x07",
    "bytes": "\udcff",
    "unicode": "木\u202ex",
    "long": "x" * 5000,
    "formula": "=1+1",
    "option": "--nosuch",
    "folder": "../../..",
    "yaml": "a=[{&a *a",
    "tag": "seed=!!python/object:os.system",
}
NUMBERS = {
    "word": "many",
    "float": "1.5",
    "digits": "9" * 5000,
    "10^21": "1" + "0" * 21,
    "minus": "-1",
    "date": "2020-01-01",
}
REALS = {"word": "half", "nan": "nan", "infinite": "inf", "digits": "9" * 5000, "minus": "-1"}
FREE = {"train": {"name", "storage", "data", "data_root", "runs", "address", "resume"}}
"""Options of a verb that runs to its end here, and that take any of some texts."""
UNFIT = {
    "train": {
        "name": ("empty", "words", "markup", "control", "bytes", "unicode", "long", "formula", "folder"),
        "data": tuple(TEXTS.keys() - {"folder"}),  # which is one of pictures, for all we know
    }
}


def wrong_commands() -> Iterator[list[str]]:
    """Yield every command that one wrong value of one option makes of a verb's base, and some without any option."""
    for verb, command in verbs(typer.main.get_command(app)):
        if verb not in BASES:
            continue
        base = [*verb.split(), *BASES[verb]]
        yield [*base, "--nosuch"]
        yield [*base, "--json=1"]
        hints = get_type_hints(inspect.unwrap(command.callback), include_extras=True)
        for option in command.params:
            if option.param_type_name != "option" or option.is_flag:
                continue
            yield [*base, option.opts[0]]  # and nothing after it
            for value in wrong_values(verb, option, hints[option.name]):
                yield [*base, f"{option.opts[0]}={value}"]


def verbs(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from verbs(command, f"{before}{name} ")
        else:
            yield before + name, command


def wrong_values(verb: str, option: Any, hint: Any) -> Iterator[str]:
    kind = str(get_args(hint)[0])
    if "int" in kind:
        yield from NUMBERS.values()
        low, high = hint.__metadata__[0].min, hint.__metadata__[0].max
        yield from [] if low is None else [str(low - 1)]
        yield from [] if high is None else [str(high + 1)]
        yield from (TEXTS[name] for name in ("empty", "control", "bytes"))
    elif "float" in kind:
        yield from REALS.values()
    elif option.name not in FREE.get(verb, ()):
        yield from TEXTS.values()
    else:
        yield from (TEXTS[name] for name in UNFIT[verb].get(option.name, ()))


def refused(command: list[str], folder: Path) -> str | None:
    """Return what is wrong with how a command ended, None if nothing is."""
    start = time.process_time()
    try:
        done = call(*command, cwd=folder)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    lines = done.stderr.splitlines()
    if done.returncode not in (1, 2):
        return f"exit code {done.returncode}"
    if done.stdout:
        return "text on standard output"
    if not lines or not lines[-1].startswith("error: ") or any(not line.startswith("warning: ") for line in lines[:-1]):
        return "not one line"
    if not done.stderr.replace("\n", "").isprintable() or len(lines[-1]) > 12_000:
        return "not one printable line"
    return None if time.process_time() - start < MOST_SECONDS else "too long"


def check(commands: list[list[str]], folder: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wrong = {repr(command)[:300]: why for command in commands if (why := refused(command, folder)) is not None}
    assert wrong == {}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_KILOBYTES
    assert list(folder.iterdir()) == []


def test_a_sample_of_wrong_commands_is_refused_in_one_line(tmp_path: Path) -> None:
    check(random.Random(0).sample(list(wrong_commands()), SAMPLE), tmp_path)


@pytest.mark.long
def test_every_wrong_command_is_refused_in_one_line(tmp_path: Path) -> None:
    check(list(wrong_commands()), tmp_path)


def test_every_verb_and_every_option_is_tried() -> None:
    commands = list(wrong_commands())
    assert len(commands) > 1000
    light = {"doctor", "config list", "config schema"}
    for verb, command in verbs(typer.main.get_command(app)):
        tried = {
            part.partition("=")[0] for words in commands if words[: len(verb.split())] == verb.split() for part in words
        }
        options = {p.opts[0] for p in command.params if p.param_type_name == "option" and not p.is_flag}
        assert options - tried == set() or verb in light
