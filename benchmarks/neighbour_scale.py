"""What neighbours found in parts on disk cost by the number of images, and how many of the exact ones they are.

    python benchmarks/neighbour_scale.py FOLDER [--sizes 60000 200000] [--threads 1] [--no-exact] [--out scale.json]

Images are MNIST's, and copies of them, each changed by its own affine and elastic maps. They are written as shards into
FOLDER, which keeps them for another call, and the parts of a search that was stopped. Each search is in a process of
its own. Printed are its seconds (of the clock and of its CPUs), the most memory that it took for itself, what of that
its libraries had taken before, the most with the pages of files that it had mapped, and the bytes on disk. Of MNIST's
60,000, it says which part of the five nearest by comparing all with all was found, and what that took in memory.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.neighbours import CHANGED
from infoae import data
from infoae.augment import augmented
from infoae.config import Augment, Data, Neighbours
from infoae.data.shards import Shards
from infoae.files import atomic_file, write_json
from infoae.pseudolabels.neighbour_graph import nearest_neighbours
from infoae.pseudolabels.search_on_disk import bytes_in_memory, nearest_on_disk

SHARD = 50_000  # images
MNIST = 60_000


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


def _changed(images: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return images, the first of them as they are, and then each time all of them changed."""
    taken = images[rows % len(images)]
    random = torch.Generator().manual_seed(int(rows[0]))
    changed = (augmented(torch.from_numpy(taken).float() / 255, CHANGED, random).clamp(0, 1) * 255).round().byte()
    return np.where((rows < len(images))[:, None, None, None], taken, changed.numpy())


def search(shards: Path, count: int, rule: Neighbours, folder: Path | None, threads: int) -> dict[str, Any]:
    """Find neighbours on disk, or in memory without a `folder`; return them with what it took."""
    torch.set_num_threads(threads)
    images = Shards(shards).first(count)
    before, ended = _taken(), threading.Event()
    peak = [before]

    def watch() -> None:
        while not ended.wait(0.01):
            peak[0] = max(peak[0], _taken())

    watching = threading.Thread(target=watch)
    watching.start()
    start, start_cpu = time.perf_counter(), time.process_time()
    if folder is None:
        found = nearest_neighbours(images[:], rule, Augment())
    else:
        found = np.array(nearest_on_disk(folder, images, rule, Augment()))
    seconds, of_cpu = time.perf_counter() - start, time.process_time() - start_cpu
    ended.set()
    watching.join()
    figures = {
        "images": count,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(of_cpu, 1),
        "memory_gb": round(peak[0] / 1e9, 3),
        "memory_before_gb": round(before / 1e9, 3),
        "memory_with_mapped_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 3),
        "estimate_in_memory_gb": round(bytes_in_memory(images.shape, rule, Augment()) / 1e9, 2),
    }
    if folder is not None:
        figures["disk_gb"] = round(sum(path.stat().st_size for path in folder.glob("*")) / 1e9, 2)
        shutil.rmtree(folder)
    return figures | {"found": found}


def _taken() -> int:
    """Return the bytes of memory of this process that are no pages of files."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder with room for 3 kB an image")
    parser.add_argument("--sizes", type=int, nargs="+", default=[MNIST, 200_000])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-exact", action="store_true", help="do not compare all of MNIST with all")
    parser.add_argument("--out", type=Path, help="JSON file of all figures")
    arguments = parser.parse_args()
    shards, threads = arguments.folder / "shards", arguments.threads
    write_shards(shards, max(arguments.sizes))
    rows = []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for size in arguments.sizes:
            given = (shards, size, Neighbours(search="approximate"), arguments.folder / f"search-{size}", threads)
            figures = pool.apply(search, given)
            found = figures.pop("found")
            if size == MNIST and not arguments.no_exact:
                exact = pool.apply(search, (shards, size, Neighbours(search="exact"), None, threads))
                nearest = exact.pop("found")
                hits = (found[:, :, None] == nearest[:, None, :]).any(2).mean()
                figures |= {"found_of_5": round(float(hits), 4), "exact_in_memory": exact}
            rows.append(figures)
            print(figures, flush=True)
            if arguments.out:
                write_json(arguments.out, {"threads": threads, "rows": rows})


if __name__ == "__main__":
    main()
