"""What neighbours found in parts on disk cost by the number of images, and how many of the exact ones they are.

    python benchmarks/neighbour_scale.py FOLDER [--sizes 60000 200000] [--threads 1] [--no-exact] [--out scale.json]

Images are MNIST's, and copies of them, each changed by its own affine and elastic maps. They are written as shards into
FOLDER, which keeps them for another call, and the parts of a search that was stopped with what these have taken. Each
search is in a process of its own. Every ten seconds it says how far it is. Printed are its seconds (of the clock and of
its CPUs, also of each stage), the most memory that it took for itself, what of that its libraries had taken before, the
most with the pages of files that it had mapped, and the bytes on disk, and gathered from there in the last stage. Of
MNIST's 60,000, it says which part of the five nearest by comparing all with all was found, and what that took in
memory. From a million images on, a model of many more on many nodes follows (see `neighbour_model.py`).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.neighbour_model import modelled
from benchmarks.neighbours import CHANGED
from infoae import data
from infoae.augment import augmented
from infoae.config import Augment, Data, Neighbours
from infoae.data.shards import Shards
from infoae.files import atomic_file, write_json
from infoae.pseudolabels import knn
from infoae.pseudolabels.neighbour_graph import nearest_neighbours
from infoae.pseudolabels.search_files import Grouped, Search
from infoae.pseudolabels.search_on_disk import bytes_in_memory, here, nearest_on_disk
from infoae.pseudolabels.search_tasks import Stage

SHARD = 50_000  # images
MNIST = 60_000
SAY_SECONDS = 10.0


def write_shards(folder: Path, count: int) -> None:
    """Write at least so many images, those of shards that are there already among them."""
    folder.mkdir(parents=True, exist_ok=True)
    images = np.asarray(data.load(Data(), "train").images)
    for number in range(-(-count // SHARD)):
        path = folder / f"{number:05}.npy"
        if path.exists():
            continue
        rows = np.arange(number * SHARD, (number + 1) * SHARD)
        made = np.concatenate([_changed(images, part) for part in np.split(rows, SHARD // 1000)])
        with atomic_file(path) as file, file.open("wb") as stream:
            np.save(stream, made)
        print(f"{rows[-1] + 1:,} of {count:,} images made", flush=True)


def _changed(images: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return images, the first of them as they are, and then each time all of them changed."""
    taken = images[rows % len(images)]
    random = torch.Generator().manual_seed(int(rows[0]))
    changed = (augmented(torch.from_numpy(taken).float() / 255, CHANGED, random).clamp(0, 1) * 255).round().byte()
    return np.where((rows < len(images))[:, None, None, None], taken, changed.numpy())


class Watched:
    """Does the tasks of a search here, says how far they are, and keeps what they take, also over several calls."""

    def __init__(self, kept: Path) -> None:
        self._kept, self._written, self._started = kept, time.perf_counter(), (time.perf_counter(), time.process_time())
        self.taken: dict[str, Any] = {"seconds": 0.0, "cpu_seconds": 0.0, "peak": 0, "gathered_bytes": 0, "stages": {}}
        if kept.exists():
            self.taken = json.loads(kept.read_text(encoding="utf-8"))
        self.earlier = self.taken["seconds"], self.taken["cpu_seconds"]

    def __call__(self, search: Search, stage: Stage, numbers: Sequence[int]) -> Generator[int]:
        count, of = stage.count(search), self.taken["stages"].setdefault(stage.result, {"tasks": 0, "cpu_seconds": 0.0})
        of["tasks"] = count
        parent = multiprocessing.parent_process()
        start = time.process_time()
        with closing(here(search, stage, numbers)) as done:
            for number in done:
                if parent is not None and not parent.is_alive():
                    raise SystemExit("whoever asked for this search has ended")
                now = time.process_time()
                of["cpu_seconds"] += now - start
                start = now
                if time.perf_counter() - self._written > SAY_SECONDS:
                    self.keep()
                    print(f"{search.num_images:,} images: {stage.result} {number + 1:,} of {count:,}", flush=True)
                yield number

    def keep(self) -> None:
        """Write what was taken until now."""
        self._written = time.perf_counter()
        now = time.perf_counter(), time.process_time()
        spent = [each - start for each, start in zip(now, self._started, strict=True)]
        self.taken["seconds"], self.taken["cpu_seconds"] = (e + s for e, s in zip(self.earlier, spent, strict=True))
        write_json(self._kept, self.taken)


def search(shards: Path, count: int, rule: Neighbours, folder: Path | None, threads: int) -> dict[str, Any]:
    """Find neighbours on disk, or in memory without a `folder`; return what it took, and those of MNIST's number."""
    torch.set_num_threads(threads)
    images = Shards(shards).first(count)
    before, ended = _taken(), threading.Event()
    watched = None if folder is None else Watched(folder.with_suffix(".json"))
    peak = [before if watched is None else max(before, watched.taken["peak"])]

    def watch() -> None:
        while not ended.wait(0.01):
            peak[0] = max(peak[0], _taken())
            if watched is not None:
                watched.taken["peak"] = peak[0]

    watching = threading.Thread(target=watch)
    watching.start()
    start, start_cpu = time.perf_counter(), time.process_time()
    try:
        if folder is None or watched is None:
            found = nearest_neighbours(images[:], rule, Augment())
            taken = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - start_cpu}
        else:
            with gathering(watched.taken):
                found = nearest_on_disk(folder, images, rule, Augment(), executor=watched)
            watched.keep()
            taken = watched.taken
    finally:
        ended.set()
        watching.join()
    figures = {
        "images": count,
        "searched": "all with all" if knn.resolved(rule.search, count) == "exact" else "lists",
        "seconds": round(taken["seconds"], 1),
        "cpu_seconds": round(taken["cpu_seconds"], 1),
        "memory_gb": round(peak[0] / 1e9, 3),
        "memory_before_gb": round(before / 1e9, 3),
        "memory_with_mapped_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 3),
        "estimate_in_memory_gb": round(bytes_in_memory(images.shape, rule, Augment()) / 1e9, 2),
    }
    if folder is not None:
        sizes = Counter[str]()
        for path in folder.glob("*"):
            sizes[path.name.partition("-")[0]] += path.stat().st_size
        figures |= {"disk_gb": round(sum(sizes.values()) / 1e9, 2), "bytes": dict(sizes)}
        figures |= {"stages": taken["stages"], "gathered_bytes": taken["gathered_bytes"]}
        shutil.rmtree(folder)
        folder.with_suffix(".json").unlink()
    return figures | ({"found": np.array(found)} if count == MNIST else {})


@contextmanager
def gathering(taken: dict[str, Any]) -> Iterator[None]:
    """Count the bytes that are read of what lies in the order of lists."""
    read = Grouped.__getitem__

    def counted(grouped: Grouped, places: slice | NDArray[np.int64]) -> NDArray[Any]:
        found = read(grouped, places)
        taken["gathered_bytes"] += found.nbytes
        return found

    with patch.object(Grouped, "__getitem__", counted):
        yield


def _taken() -> int:
    """Return the bytes of memory of this process that are no pages of files."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder with room for 4.2 kB an image")
    parser.add_argument("--sizes", type=int, nargs="+", default=[MNIST, 200_000])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-exact", action="store_true", help="do not compare all of MNIST with all")
    parser.add_argument(
        "--out", type=Path, help="JSON file of all figures; sizes that it has and are not asked for stay"
    )
    arguments = parser.parse_args()
    shards, threads = arguments.folder / "shards", arguments.threads
    write_shards(shards, max(arguments.sizes))
    rows = {}
    if arguments.out and arguments.out.exists():
        rows = {row["images"]: row for row in json.loads(arguments.out.read_text(encoding="utf-8"))["rows"]}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, max_tasks_per_child=1) as pool:
        for size in arguments.sizes:
            given = (shards, size, Neighbours(search="approximate"), arguments.folder / f"search-{size}", threads)
            figures = pool.submit(search, *given).result()
            found = figures.pop("found", None)
            if found is not None and not arguments.no_exact:
                exact = pool.submit(search, shards, size, Neighbours(search="exact"), None, threads).result()
                nearest = exact.pop("found")
                hits = (found[:, :, None] == nearest[:, None, :]).any(2).mean()
                figures |= {"found_of_5": round(float(hits), 4), "exact_in_memory": exact}
            rows[size] = figures
            print(figures, flush=True)
            if arguments.out:
                of_all = [rows[each] for each in sorted(rows)]
                model = modelled(of_all)
                written = {"threads": threads, "rows": of_all}
                write_json(arguments.out, written | ({"model": model} if model else {}))


if __name__ == "__main__":
    main()
