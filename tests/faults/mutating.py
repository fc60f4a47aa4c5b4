"""A program: files of every kind that infoae reads are damaged, and given to what reads them.

    python -m tests.faults.mutating COUNT [SEED] [--only INDEX] [--out FILE]

Each must become rows (pictures, or reasons) or one line of ours, in the time and memory of `forks`. Prints a table, and
of each file that did not hold its kind, its number and what was wrong; `--only` gives that file alone, in this process.
The same SEED makes the same files.
"""

from __future__ import annotations

import argparse
import collections
import functools
import json
import os
import random
import re
import struct
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.faults import inputs, written
from tests.faults.forks import outcomes
from tests.faults.readers import Kind, wrong

KINDS: dict[str, Kind] = {**inputs.PICTURES, **inputs.CONTAINERS, **inputs.OTHERS, **written.WRITTEN}
EXTREMES = (0, -1, 1, 2**7, 2**15 - 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 10**30)
WORDS = (*(b"%d" % number for number in EXTREMES), *b'null true [] {} "" 1e400 NaN -0.0 .inf 0.5 *a'.split())
"""What is put into text in place of a word of it."""
_WORD = re.compile(rb'"[^"\n]*"|[\w.+-]+')


def mutated(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Return `content`, damaged in one to four ways; `others` are files of which parts may get into it."""
    text = _is_text(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        content = _with_another_word(content, rng) if text and rng.random() < 0.8 else _damaged(content, others, rng)
    return content


def _damaged(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    found = bytearray(content)
    start = rng.randrange(len(found) + 1) if rng.random() < 0.7 else rng.randrange(min(len(found), 64) + 1)
    length = min(rng.choice((1, 2, 4, 8, 64, 512)), len(found) - start)
    end = start + length
    match rng.randrange(8):
        case 0:  # a bit
            found[start : start + 1] = bytes(byte ^ 1 << rng.randrange(8) for byte in found[start : start + 1])
        case 1:
            found[start:end] = rng.randbytes(length)
        case 2:  # a cut, or the end of the file
            del found[start : end if rng.random() < 0.5 else None]
        case 3:
            found[start:start] = found[start:end] * rng.choice((1, 2, 100))
        case 4:  # a part of another file, in place of one or between
            other = rng.choice(others)
            at = rng.randrange(len(other) + 1)
            found[start : end if rng.random() < 0.5 else start] = other[at : at + rng.choice((4, 64, 512))]
        case 5 | 6:
            form = rng.choice(("<", ">")) + rng.choice("BHIQ")
            number = struct.pack(form, rng.choice(EXTREMES) % 256 ** struct.calcsize(form))
            found[start : start + len(number)] = number
        case _:
            return _with_other_digits(content, start, rng)
    return bytes(found)


def _with_other_digits(content: bytes, start: int, rng: random.Random) -> bytes:
    """Put an extreme in place of the first number in digits after `start`, as wide as it was or as long as it is."""
    found = re.compile(rb"[0-9]+").search(content, start)
    if found is None:
        return content
    number = rng.choice(EXTREMES)
    wide = rng.choice((b"%0*o", b"%0*d")) % (len(found[0]), abs(number))  # octal as tar has it
    other = wide[: len(found[0])] if rng.random() < 0.5 else b"%d" % number
    return content[: found.start()] + other + content[found.end() :]


def _is_text(content: bytes) -> bool:
    return content.isascii() and b"\0" not in content and len(content) > 20


def _with_another_word(content: bytes, rng: random.Random) -> bytes:
    """Put another word of the text, or one of WORDS, in place of a word; or leave out, or repeat, a line."""
    words = list(_WORD.finditer(content))
    lines = content.splitlines(keepends=True)
    if not words or rng.random() < 0.2:
        at = rng.randrange(len(lines) + 1)
        lines[at : at + 1] = rng.choice(([], lines[at : at + 1] * 2, lines[at : at + 1] * 50))
        return b"".join(lines)
    word = rng.choice(words)
    quoted = word[0].startswith(b'"')  # so that most of what was JSON remains it
    like = [other[0] for other in words if other[0].startswith(b'"')] if quoted else [*WORDS, word[0][1:]]
    other = rng.choice(like if rng.random() < 0.7 else WORDS)
    return content[: word.start()] + other + content[word.end() :]


def made(seed: int, index: int) -> tuple[str, bytes]:
    """Return the kind and the content of a damaged file: the same whenever it is asked for."""
    rng = random.Random(f"{seed} {index}")
    name = list(KINDS)[index % len(KINDS)]
    kind = KINDS[name]
    others = list(kind.seeds())
    content = rng.choice(others)
    if kind.finish is None:
        return name, mutated(content, others, rng)
    if rng.random() < 0.7:
        return name, kind.finish(mutated(content, others, rng))
    others = [kind.finish(other) for other in others]
    return name, mutated(kind.finish(content), others, rng)


def prepare() -> None:
    """Make what readers need in the folder that this process is in."""
    inputs.prepare()
    written.prepare()


def tried(seed: int, index: int) -> str | None:
    """Return what is wrong with how a damaged file is read; None if nothing is."""
    name, content = made(seed, index)
    return wrong(KINDS[name], content)


def main() -> None:
    """Try what the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.mutating")
    parser.add_argument("count", type=int)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.only is not None:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            prepare()
            print(*made(arguments.seed, arguments.only), tried(arguments.seed, arguments.only), sep="\n")  # noqa: T201
        return
    total: collections.Counter[str] = collections.Counter()
    found: dict[str, list[list[object]]] = collections.defaultdict(list)
    for index, why in outcomes(arguments.count, prepare, functools.partial(tried, arguments.seed)):
        name = list(KINDS)[index % len(KINDS)]
        total[name] += 1
        if why is not None:
            found[name].append([index, why])
            print(f"{name}, file {index} of seed {arguments.seed}: {why}", file=sys.stderr)  # noqa: T201
    for name, number in total.items():
        print(f"{name:20} tried {number:6} held {number - len(found[name]):6}")  # noqa: T201
    if arguments.out:
        kinds = {
            name: {"group": KINDS[name].group, "tried": number, "wrong": found[name]} for name, number in total.items()
        }
        result = {"seed": arguments.seed, "kinds": kinds}
        arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
