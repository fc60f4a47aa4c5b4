"""How long the search for the nearest vectors takes and how many it finds, by their number and width.

    python benchmarks/neighbour_search.py [--sizes 50000 100000] [--widths 50 512] [--threads 1] [--out search.json]

Vectors are MNIST's 60,000 images by so many components, and made ones: a hundred clouds, each of 12 dimensions and a
little noise. Compared are all with all, measured on a sample of vectors and extrapolated; faiss's lists as infoae uses
them; and faiss's graph (HNSW, Malkov and Yashunin 2020), its search extrapolated from the sample, too. Seconds are of
the process (CPU time), so that other work beside counts little. Printed last is the power of their number with which
the seconds of made vectors grow.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.neighbours import directions_of
from infoae import data
from infoae.config import Data
from infoae.files import write_json
from infoae.pseudolabels import knn
from infoae.pseudolabels.neighbour_graph import CANDIDATES

CLOUDS, INNER, NOISE = 100, 12, 0.1
LINKS, LOOKED_AT = 16, CANDIDATES + 20  # of the graph: links a vector, and vectors kept while searching
SEARCHES = ("exact", "lists", "graph")


def made(number: int, width: int) -> Tensor:
    """Return unit vectors (N, D) in clouds."""
    random = torch.Generator().manual_seed(0)
    centres = torch.randn(CLOUDS, width, generator=random)
    axes = torch.randn(CLOUDS, INNER, width, generator=random) / math.sqrt(INNER)
    vectors = NOISE * torch.randn(number, width, generator=random)
    clouds = torch.randint(CLOUDS, (number,), generator=random)
    for cloud in range(CLOUDS):
        mine = clouds == cloud
        vectors[mine] += centres[cloud] + torch.randn(int(mine.sum()), INNER, generator=random) @ axes[cloud]
    return F.normalize(vectors)


def hits(found: Tensor, nearest: Tensor, count: int) -> float:
    """Return which part of the first `count` of `nearest` (R, P) are among `found` (R, Q)."""
    return (nearest[:, :count, None] == found[:, None, :]).any(2).float().mean().item()


def measure(directions: Tensor, sample: int) -> dict[str, Any]:
    number, width = directions.shape
    chosen = torch.randperm(number, generator=torch.Generator().manual_seed(1))[:sample]
    start = time.process_time()
    nearest = torch.cat([(directions[rows] @ directions.T).topk(CANDIDATES + 1).indices for rows in chosen.split(1000)])
    exact = (time.process_time() - start) * number / sample

    start = time.process_time()
    lists = torch.cat([found for _, found in knn.closest(directions, CANDIDATES, "approximate")])[chosen]
    seconds_lists = time.process_time() - start

    start = time.process_time()
    index = faiss.IndexHNSWFlat(width, LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efSearch = LOOKED_AT
    index.add(directions.numpy())
    built = time.process_time()
    graph = torch.from_numpy(index.search(directions[chosen].numpy(), CANDIDATES + 1)[1])
    seconds_graph = built - start + (time.process_time() - built) * number / sample

    nearest = nearest[:, 1:]  # the first is the vector itself
    return {
        "vectors": number,
        "width": width,
        "seconds": {
            "exact": round(exact, 2),
            "lists": round(seconds_lists, 2),
            "graph": round(seconds_graph, 2),
        },
        "found_of_5": {"lists": round(hits(lists, nearest, 5), 4), "graph": round(hits(graph, nearest, 5), 4)},
        "found_of_100": {
            "lists": round(hits(lists, nearest, CANDIDATES), 4),
            "graph": round(hits(graph, nearest, CANDIDATES), 4),
        },
    }


def powers(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return for each search the slope of a line through log(seconds) over log(vectors); seconds have two digits."""
    logs = np.log([row["vectors"] for row in rows])
    return {
        search: round(float(np.polyfit(logs, np.log([max(row["seconds"][search], 0.005) for row in rows]), 1)[0]), 2)
        for search in SEARCHES
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[50_000, 100_000, 200_000, 400_000])
    parser.add_argument("--widths", type=int, nargs="+", default=[50, 512])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sample", type=int, default=2000)
    parser.add_argument("--limit", type=int, help="of MNIST's images, to try the program")
    parser.add_argument("--out", type=Path, help="JSON file of all figures")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    faiss.omp_set_num_threads(arguments.threads)
    images = np.asarray(data.load(Data(limit=arguments.limit), "train").images)
    rows, grow = [], {}
    for width in arguments.widths:
        for size in (None, *arguments.sizes):
            directions = directions_of(images, width) if size is None else made(size, width)
            kind = "MNIST" if size is None else "made"
            rows.append({"kind": kind} | measure(directions, min(arguments.sample, len(directions))))
            print(rows[-1], flush=True)
        if len(arguments.sizes) > 1:
            grow[str(width)] = powers([row for row in rows if (row["kind"], row["width"]) == ("made", width)])
            print(f"width {width}: seconds grow with their number to the power of {grow[str(width)]}", flush=True)
        if arguments.out:
            write_json(arguments.out, {"threads": arguments.threads, "rows": rows, "powers": grow})


if __name__ == "__main__":
    main()
