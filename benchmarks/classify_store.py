"""`infoae classify --ray` on many rows of an object store, killed twice: each row once, its rate and its memory.

    python benchmarks/classify_store.py BUNDLE FOLDER [--rows 10000000] [--shard-rows 100000] [--out FILE.json]

Rows are MNIST's test digits, as they are and moved by small affine maps, as PNG in Parquet shards, which are written
straight into moto's S3 server. That keeps them in FOLDER, 0.3 kB a row, and so does the result. The command is killed
once at a random moment and given again; then one of its actors is killed at another. Checked are that each row of the
store is in the result once, and that each label is that of `Classifier` alone. Before and after the job, one process
for each CPU classifies the same decoded rows, all at once: its rate is what the job's rate a core is compared with.
Memory is that of a process alone, without the pages of files that it has mapped.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from pyarrow import parquet

from benchmarks import store_rows
from benchmarks.object_store import Store, taken
from benchmarks.store_rows import ADDRESS
from infoae.cpus import available_cpus
from infoae.deploy import Classifier
from infoae.files import write_json

COMMAND = [sys.executable, "-c", "from infoae.cli.main import main; main()"]
EVERY = 0.5
"""Seconds between two looks at the job."""


@dataclass
class Look:
    """What there is at one moment of an attempt: rows of finished shards, and bytes of the command and an actor."""

    attempt: int
    seconds: float
    rows: int
    command: int
    actor: int


@dataclass
class Watch:
    """What has been seen of a job over all attempts, and whom it still kills when: shards done, and who."""

    out: Path
    shard_rows: int
    kills: list[tuple[int, str]]
    chance: random.Random
    looks: list[Look] = field(default_factory=list)
    killed: list[dict[str, Any]] = field(default_factory=list)

    def follow(self, process: subprocess.Popen[str], attempt: int) -> None:
        """Look at a command until it ends; kill it or an actor at a random moment of the shard whose turn it is."""
        start, before, due = time.monotonic(), self._shards(), None
        first: tuple[float, int] | None = None  # when there was a shard of this attempt: the start is none of its rate
        while process.poll() is None:
            shards, seconds = self._shards(), time.monotonic() - start
            command, actors = memory(process.pid)
            self.looks.append(
                Look(attempt, seconds, shards * self.shard_rows, command, max(actors.values(), default=0))
            )
            if first is None and shards > before:
                first = seconds, shards
            if self.kills and due is None and first is not None and shards >= self.kills[0][0]:
                due = seconds + self.chance.uniform(0, (seconds - first[0]) / max(1, shards - first[1]))
            if due is not None and seconds >= due and (actors or self.kills[0][1] == "command"):
                _, whom = self.kills.pop(0)
                os.kill(process.pid if whom == "command" else self.chance.choice(sorted(actors)), signal.SIGKILL)
                self.killed.append({"killed": whom, "after_rows": shards * self.shard_rows})
                due = None
            time.sleep(EVERY)

    def _shards(self) -> int:
        folders = self.out, self.out.with_name(f".{self.out.name}.partial")
        return max(len(list(folder.glob("part-*.parquet"))) for folder in folders)


def memory(pid: int) -> tuple[int, dict[int, int]]:
    """Return the bytes of a command, and of each of its actors by process."""
    actors = {}
    with suppress(psutil.Error):
        for child in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.Error):
                if child.name().startswith("ray::Map"):
                    actors[child.pid] = taken(child.pid)
    return taken(pid), actors


def run(arguments: list[str], watch: Watch) -> dict[str, Any]:
    """Give a command again and again until it has ended well; return what it printed, and how often it was given."""
    for attempt in range(1, 6):
        command = [*COMMAND, *arguments, *(["--resume"] if attempt > 1 else [])]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            watch.follow(process, attempt)
            output, _ = process.communicate()
        if process.returncode == 0:
            told: dict[str, Any] = json.loads(output)
            return told | {"attempts": attempt}
        if process.returncode != -signal.SIGKILL:
            print(f"attempt {attempt} ended with {process.returncode}", file=sys.stderr)
    raise SystemExit("the command did not end well in five attempts")


def quarters(looks: list[Look]) -> dict[str, dict[str, float]]:
    """Return the most MB of command and actor while the last attempt made the first and last quarter of its rows."""
    last = [look for look in looks if look.attempt == looks[-1].attempt]
    first, end = last[0].rows, last[-1].rows
    parts = {
        "first_quarter": [look for look in last if look.rows - first <= (end - first) / 4],
        "last_quarter": [look for look in last if end - look.rows <= (end - first) / 4],
    }
    return {
        who: {part: round(max(getattr(look, who) for look in found) / 1e6, 1) for part, found in parts.items()}
        for who in ("command", "actor")
    }


def rate(looks: list[Look]) -> float:
    """Return the rows a second of the last attempt, from its first finished shard to its last."""
    last = [look for look in looks if look.attempt == looks[-1].attempt]
    made = [look for look in last if look.rows > last[0].rows]
    final = next(look for look in made if look.rows == made[-1].rows)
    return (final.rows - made[0].rows) / (final.seconds - made[0].seconds) if final is not made[0] else float("nan")


def check(
    result: Path, total: int, numbers: Callable[[str], NDArray[np.int64]], labels: NDArray[np.int64]
) -> dict[str, int]:
    """Count how often each of `total` rows is in the parts of a result, and which labels differ.

    `numbers` returns the number of each row of a shard in the store; a row of number n has label n modulo their number.
    """
    times = np.zeros(total, np.int64)
    unreadable = other = 0
    for part in sorted(result.glob("part-*.parquet")):
        found = parquet.read_table(part, columns=["path", "label", "error"])
        shards, _, rows = zip(*(path.rpartition("#") for path in found["path"].to_pylist()), strict=True)
        (shard,) = set(shards)
        row_numbers = numbers(shard)[np.array(rows, np.int64)]
        np.add.at(times, row_numbers, 1)
        unreadable += len(found) - found["error"].null_count
        given = found["label"].fill_null(-1).to_numpy()
        other += int((given != labels[row_numbers % len(labels)]).sum())
    counts = {"missing": times == 0, "once": times == 1, "more_than_once": times > 1}
    return {name: int(rows.sum()) for name, rows in counts.items()} | {"unreadable": unreadable, "other_label": other}


def measure(bundle: Path, folder: Path, total: int, shard_rows: int, seed: int) -> dict[str, Any]:
    """Return every figure of one job."""
    cpus, chance = available_cpus(), random.Random(seed)
    pictures = store_rows.pictures(total)
    labels = Classifier(bundle, "cpu").classify(pictures.pixels).probabilities.argmax(axis=1)
    with Store(folder) as store:
        num_bytes = store_rows.write(store, pictures.encoded, total, shard_rows)
        print(f"{total:,} rows in the store, {num_bytes / 1e9:.2f} GB", flush=True)
        before = store_rows.alone(bundle, pictures, cpus)
        out, shards = folder / "labels", -(-total // shard_rows)
        # The command in the first half, an actor in what is then left, but for its end: that would be over too soon.
        turns = (
            chance.randint(1, max(1, shards // 2 - 1)),
            chance.randint(shards // 2, max(shards // 2, shards * 3 // 4)),
        )
        kills = [(turns[0], "command"), (turns[1], "actor")]
        watch = Watch(out, shard_rows, kills, chance)
        arguments = ["classify", ADDRESS, "--model", str(bundle), "--out", str(out), "--column", "image"]
        start = time.monotonic()
        told = run([*arguments, "--ray", "--device", "cpu", "--json"], watch)
        seconds = time.monotonic() - start
        after = store_rows.alone(bundle, pictures, cpus)
        checked = check(out, total, partial(store_rows.numbers, store), labels)
        server = store.peak
    shutil.rmtree(out)
    alone = {name: (before[name] + after[name]) / 2 for name in before}
    a_core = rate(watch.looks) / cpus
    return {
        "rows": total,
        "shard_rows": shard_rows,
        "gb_in_store": round(num_bytes / 1e9, 3),
        "cpus": cpus,
        "seed": seed,
        "attempts": told["attempts"],
        "kills": watch.killed,
        "seconds": round(seconds, 1),
        "rows_in_result": checked,
        "labels": len(set(labels.tolist())),
        "rows_per_second_a_core": {"job": round(a_core, 1)} | {name: round(value, 1) for name, value in alone.items()},
        "ratios": {f"job/{name}": round(a_core / value, 3) for name, value in alone.items()},
        "memory_mb": quarters(watch.looks) | {"server": {"peak": round(server / 1e6, 1)}},
        "looks": [vars(look) for look in watch.looks[:: max(1, len(watch.looks) // 200)]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="what infoae export wrote of a run on MNIST")
    parser.add_argument("folder", type=Path, help="an empty folder, or one that is not there yet")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--shard-rows", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0, help="of the moments at which something is killed")
    parser.add_argument("--out", type=Path, help="JSON file of all figures")
    arguments = parser.parse_args()
    if arguments.rows < 4 * arguments.shard_rows:
        parser.error("at least four shards are needed to kill something twice")
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        parser.error(f"{folder} is not empty")
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])  # where workers find the package
    os.environ["INFOAE_CACHE"] = str(folder / "cache")
    result = measure(arguments.bundle.resolve(), folder, arguments.rows, arguments.shard_rows, arguments.seed)
    print(json.dumps({name: value for name, value in result.items() if name != "looks"}, indent=2))
    if arguments.out:
        write_json(arguments.out, result)
    if len(result["kills"]) < 2:
        raise SystemExit("the job ended before it was killed twice: give more rows")
    if result["rows_in_result"]["once"] != result["rows"] or result["rows_in_result"]["other_label"]:
        raise SystemExit("rows are missing, doubled or labelled otherwise")


if __name__ == "__main__":
    main()
