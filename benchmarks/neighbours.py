"""What neighbours cost and how many faiss misses, at 60,000 images and at so many times that.

    python benchmarks/neighbours.py [--times 1 10] [--threads 1] [--sample 2000] [--out neighbours.json]

More images are MNIST's again, each copy changed by its own affine and elastic maps. Printed are what an exact search
for candidates takes, measured on a sample of images and extrapolated to all, what faiss takes and which part of them it
finds, seconds for the whole graph of five neighbours with faiss, and the peak memory of the process so far.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from infoae import data
from infoae.augment import augmented
from infoae.config import Augment, Data, Neighbours
from infoae.files import write_json
from infoae.pseudolabels import knn
from infoae.pseudolabels.neighbour_graph import CANDIDATES, COMPONENTS, nearest_neighbours

CHANGED = Augment(elastic=1.0)


def copies(images: NDArray[np.uint8], times: int) -> NDArray[np.uint8]:
    """Return the images and `times` - 1 changed copies."""
    random = torch.Generator().manual_seed(0)
    parts = [images]
    for _ in range(times - 1):
        for part in torch.tensor(images).split(1000):
            changed = augmented(part.float() / 255, CHANGED, random).clamp(0, 1)
            parts.append((changed * 255).round().byte().numpy())
    return np.concatenate(parts)


def directions_of(images: NDArray[np.uint8], components: int = COMPONENTS) -> torch.Tensor:
    """Return unit vectors (N, components) of unblurred images, by default of as many as neighbours are compared by."""
    points = torch.cat([part.float().flatten(1) for part in torch.tensor(images).split(1000)])
    return F.normalize(points @ torch.linalg.eigh(points.T @ points)[1][:, -components:])


def measure(images: NDArray[np.uint8], sample: int) -> dict[str, Any]:
    directions = directions_of(images)
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))[:sample]
    start = time.perf_counter()
    cosine = torch.cat([(directions[rows] @ directions.T).topk(CANDIDATES + 1).indices for rows in chosen.split(200)])
    exact_seconds = (time.perf_counter() - start) * len(images) / sample
    start = time.perf_counter()
    found = torch.cat([indices for _, indices in knn.closest(directions, CANDIDATES, "approximate")])[chosen]
    faiss_seconds = time.perf_counter() - start
    others = cosine[:, 1:]  # the first is the image itself
    hits = (found[:, :, None] == others[:, None, :]).any(2).float().mean().item()
    start = time.perf_counter()
    nearest_neighbours(images, Neighbours(search="approximate"), Augment())
    return {
        "images": len(images),
        "candidates_exact_seconds_extrapolated": round(exact_seconds, 1),
        "candidates_faiss_seconds": round(faiss_seconds, 1),
        "ratio": round(exact_seconds / faiss_seconds, 2),
        "recall_of_100": round(hits, 4),
        "graph_with_faiss_seconds": round(time.perf_counter() - start, 1),
        "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sample", type=int, default=2000)
    parser.add_argument("--limit", type=int, help="of MNIST's images, to try the program")
    parser.add_argument("--out", type=Path, help="JSON file of all figures")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    images = data.load(Data(limit=arguments.limit), "train").images
    found = []
    for times in arguments.times:
        found.append(measure(copies(np.asarray(images), times), arguments.sample))
        print(found[-1], flush=True)
        if arguments.out:
            write_json(arguments.out, {"threads": arguments.threads, "sizes": found})


if __name__ == "__main__":
    main()
