"""Training from an object store against training from a folder: what waiting it costs, and that the weights are equal.

    python benchmarks/streaming.py FOLDER [--shards 60] [--epochs 3] [--out docs/results/streaming.json]

MNIST's training images lie in FOLDER as so many shards, and in moto's S3 server on this machine. Recipe infogan is
trained on them by all CPUs: from the folder; from the store with no copies yet, with all of them, with room for a third
of them, and so while the server answers nothing for some seconds, in each epoch but the first; and from the store once
more, killed at a random step of the last epoch and gone on with, its copies removed. A real store is further away, so
its first epoch waits longer. Waiting is what `data_wait` says, of the worker that reads for all.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs

from benchmarks.object_store import BUCKET, Store
from infoae import data
from infoae.config import Data
from infoae.cpus import available_cpus
from infoae.files import write_json
from infoae.runs.run import Run

COMMAND = [sys.executable, "-c", "from infoae.cli.main import main; main()"]
SILENT_SECONDS = 6.0
SAVE_EVERY = 50  # steps


def write_shards(folder: Path, num_shards: int) -> int:
    """Write MNIST, its training images as so many shards; return their bytes."""
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True)
    np.save(folder / "test" / "0.npy", data.load(Data(), "test").images)
    for number, part in enumerate(np.array_split(np.asarray(data.load(Data(), "train").images), num_shards)):
        np.save(folder / "train" / f"{number:05}.npy", part)
    return sum(path.stat().st_size for path in folder.glob("train/*.npy"))


class Trainings:
    """Trains in `folder`, each time from the same seed, and says what it took."""

    def __init__(self, folder: Path, store: Store, epochs: int) -> None:
        self._folder, self._store, self._epochs = folder, store, epochs
        self._cache = folder / "cache"

    def forget_copies(self) -> None:
        """As on another machine."""
        shutil.rmtree(self._cache, ignore_errors=True)

    def run(
        self, name: str, source: str, meanwhile: Callable[[Run, subprocess.Popen[bytes]], object] | None = None
    ) -> dict[str, Any]:
        """Train a run of this name on `source`, and do something beside it; a run that was killed is gone on with."""
        run, before = Run(self._folder / "runs" / name), self._store.reads()
        settings = [f"train.processes={available_cpus()}", f"train.save_every={SAVE_EVERY}"]
        given = ["--config", "infogan", "--data", source, "--name", name, "--epochs", str(self._epochs)]
        given += [part for setting in settings for part in ("--set", setting)]
        start = time.perf_counter()
        with self._watched() as most:
            if self._train(given, run, meanwhile):
                self.forget_copies()
                self._train(["--resume", name], run, None)
        took = time.perf_counter() - start
        waits = [line["data_wait"] for line in run.metrics() if "data_wait" in line]
        reads = self._store.reads() - before
        return {
            "seconds": round(took, 1),
            "waiting": round(float(np.mean(waits)), 4),
            "waiting_most": round(max(waits), 4),
            "requests": sum(count for path, count in reads.items() if "/train/" in path),
            "mb_of_copies": round(most[0] / 1e6, 1),
            "weights": (run.checkpoint("newest") / "model.safetensors").read_bytes(),
            "steps": run.checkpoint("newest").name,
        }

    def _train(
        self, given: list[str], run: Run, meanwhile: Callable[[Run, subprocess.Popen[bytes]], object] | None
    ) -> bool:
        """Return whether it was killed."""
        command = [*COMMAND, "train", *given, "--runs", str(run.path.parent)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            if meanwhile is not None:
                meanwhile(run, process)
        if process.returncode not in (0, -9):
            raise SystemExit(f"infoae {' '.join(command[3:])} ended with {process.returncode}")
        return process.returncode != 0

    @contextmanager
    def _watched(self) -> Iterator[list[int]]:
        """The most bytes of copies that there were."""
        most, ended = [0], threading.Event()

        def watch() -> None:
            while not ended.wait(0.1):
                sizes = [_size(path) for path in self._cache.rglob("*.npy")]
                most[0] = max(most[0], sum(sizes))

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield most
        finally:
            ended.set()
            thread.join()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # has gone meanwhile


def steps(run: Run) -> int:
    """Return the last step that was logged."""
    return max((line["step"] for line in run.metrics()), default=0) if run.path.is_dir() else 0


def wait_for(step: int, run: Run, process: subprocess.Popen[bytes]) -> None:
    """Wait until a run has logged a step, or has ended."""
    while steps(run) < step and process.poll() is None:
        time.sleep(0.1)


def measure(folder: Path, num_shards: int, epochs: int, seed: int) -> dict[str, Any]:
    """Return what each way took, and what all have in common."""
    chance, shards = random.Random(seed), folder / "shards"
    num_bytes, address = write_shards(shards, num_shards), f"s3://{BUCKET}/shards"
    num_images = len(data.load(Data(), "train"))
    with Store(folder) as store:
        pyarrow.fs.copy_files(str(shards), f"{BUCKET}/shards", destination_filesystem=store.system)
        trainings = Trainings(folder, store, epochs)
        ways = {"folder": trainings.run("folder", str(shards))}
        epoch_steps = int(ways["folder"]["steps"].removeprefix("step-")) // epochs
        ways["store"] = trainings.run("store", address)
        ways["copied"] = trainings.run("copied", address)
        trainings.forget_copies()
        os.environ["INFOAE_MAX_CACHE_BYTES"] = str(num_bytes // 3)
        ways["bounded"] = trainings.run("bounded", address)

        def silence(run: Run, process: subprocess.Popen[bytes]) -> None:
            for epoch in range(1, epochs):
                wait_for(round((epoch + chance.uniform(0.1, 0.6)) * epoch_steps), run, process)
                store.pause(SILENT_SECONDS)

        ways["silent"] = trainings.run("silent", address, silence)
        del os.environ["INFOAE_MAX_CACHE_BYTES"]
        killed: list[int] = []

        def kill(run: Run, process: subprocess.Popen[bytes]) -> None:
            wait_for(round((epochs - chance.uniform(0.2, 0.9)) * epoch_steps), run, process)
            killed.append(steps(run))
            process.kill()

        trainings.forget_copies()
        ways["killed"] = trainings.run("killed", address, kill)
    weights = ways["folder"]["weights"]
    for way in ways.values():
        way["same_weights"] = way.pop("weights") == weights
    return {
        "images": num_images,
        "shards": num_shards,
        "mb": round(num_bytes / 1e6, 1),
        "epochs": epochs,
        "cpus": available_cpus(),
        "seed": seed,
        "silent_seconds": SILENT_SECONDS,
        "killed_after_step": killed[0],
        "ways": ways,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="an empty folder, or one that is not there yet")
    parser.add_argument("--shards", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=3, help="at least three, in which learning rates fall")
    parser.add_argument("--seed", type=int, default=0, help="of the moments at which something happens")
    parser.add_argument("--out", type=Path, help="JSON file of all figures")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        parser.error(f"{folder} is not empty")
    os.environ["INFOAE_CACHE"] = str(folder / "cache")
    result = measure(folder, arguments.shards, arguments.epochs, arguments.seed)
    print(json.dumps(result, indent=2))
    if arguments.out:
        write_json(arguments.out, result)
    if not all(way["same_weights"] for way in result["ways"].values()):
        raise SystemExit("weights differ")


if __name__ == "__main__":
    main()
