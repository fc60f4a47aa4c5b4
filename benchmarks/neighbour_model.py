"""A model of neighbours found on many nodes, from what each stage took on one thread by the number of images.

    python benchmarks/neighbour_model.py scale.json

The file is one of `neighbour_scale.py`, which needs a million images or more, and gets its `model` anew. Nothing in it
is measured beyond the sizes of its rows. CPU seconds of a stage are fitted by the terms that its work has, each with a
coefficient of 0 or more, so that the largest relative error at the measured sizes is small; the error is printed. Then

- tasks of a stage are spread evenly over all CPUs of all nodes, each as fast as the one that was measured;
- a stage of one task runs on one node: lists are learnt on its CPUs at half their speed, the others on one CPU;
- all that is read and written goes through the network to a file system that all nodes share, nothing stays in a node's
  memory, and reading, computing and the other nodes overlap: a stage takes as long as the slowest of these;
- the images are in shards of a million, so that opening them does not count, and nothing is lost.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

from infoae.files import write_json
from infoae.pseudolabels import knn, search_files, search_tasks

SIZES = (10**7, 10**8, 10**9)
LEAST = 10**6  # images of the largest measured size: terms that grow faster cannot be told from fewer
ASSUMED = {
    "nodes": 64,
    "cpus_a_node": 16,
    "link_gb_a_second": 3.0,  # of a node, as of 25 Gbit/s
    "storage_gb_a_second": 20.0,  # of the shared file system, for all nodes together
    "speed_of_learning": 0.5,  # of a node's CPUs on one task
}
WIDTH = 50  # of vectors
PIXELS = 784  # bytes of an image


def counts(images: float) -> dict[str, float]:
    """Return how many parts, groups, lists and vectors of the sample a search has."""
    lists = knn.LISTS * images**0.5
    fit = search_tasks.SAMPLE_BYTES / (4 * WIDTH * lists)
    parts = images / search_files.PART
    sample = min(images, lists * max(1.0, min(knn.LEARNT_FROM, fit)))
    return {"parts": parts, "groups": parts / search_files.GROUP, "lists": lists, "sample": sample}


def terms(stage: str, images: float) -> list[float]:
    """Return the terms that the work of a stage has."""
    of = counts(images)
    return {
        "sums": [images],
        "frame": [1.0, of["parts"]],  # the eigenvectors, and sums of parts
        "sample": [of["sample"], of["parts"]],
        "centres": [of["sample"] * of["lists"]],
        "sorted": [images, images * of["lists"]],  # vectors and planes, and the nearest of all centres
        "places": [images, of["parts"] * of["lists"]],
        "grouped": [images, of["parts"] * of["groups"]],  # each group looks into each part
        "found": [images, images * images**0.5],  # candidates by planes, and vectors of lists
        "gathered": [images, images * images**0.5],
    }[stage]


def fitted(stage: str, sizes: list[int], values: list[float]) -> tuple[list[float], float]:
    """Return the coefficients of a stage's terms, and the largest relative error of the fit."""
    matrix = np.array([terms(stage, size) for size in sizes]) / np.array(values)[:, None]
    scale = matrix.max(0)
    found = nnls(matrix / scale, np.ones(len(sizes)))[0] / scale
    return found.tolist(), float(np.abs(matrix @ found - 1).max())


def modelled(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the model from the measured rows; None if these are of too few images, or of one size alone."""
    rows = [row for row in rows if row["searched"] == "lists"]
    sizes = [row["images"] for row in rows]
    if len(set(sizes)) < 2 or max(sizes) < LEAST:
        return None
    largest = max(rows, key=lambda row: row["images"])
    fits = {
        name: fitted(name, sizes, [row["stages"][name]["cpu_seconds"] for row in rows]) for name in largest["stages"]
    }
    fits["gathered"] = fitted("gathered", sizes, [row["gathered_bytes"] for row in rows])
    return {
        "assumed": ASSUMED,
        "largest_errors": {name: round(error, 3) for name, (_, error) in fits.items()},
        "terms": {name: coefficients for name, (coefficients, _) in fits.items()},
        "sizes": [_at(images, {name: fit[0] for name, fit in fits.items()}, largest) for images in SIZES],
    }


def _at(images: int, fits: dict[str, list[float]], largest: dict[str, Any]) -> dict[str, Any]:
    """Return what a search of so many images takes."""
    of, a = counts(images), ASSUMED
    kept = {name: size / largest["images"] for name, size in largest["bytes"].items()}  # a file of each image
    written = {name: images * kept[name] for name in ("sorted", "grouped", "found")} | {
        "sums": of["parts"] * 4 * PIXELS * (PIXELS + 1),
        "sample": of["sample"] * 4 * WIDTH,
        "centres": of["lists"] * 4 * WIDTH,
        "places": of["parts"] * of["lists"] * 8,
        "frame": 0.0,
    }
    read = {
        "sums": images * PIXELS,
        "frame": written["sums"],
        "sample": of["sample"] * PIXELS,
        "centres": written["sample"],
        "sorted": images * PIXELS + of["parts"] * written["centres"],
        "places": images * 8,
        "grouped": written["sorted"],
        "found": float(np.dot(fits["gathered"], terms("gathered", images)))
        + images / search_files.BLOCK * (written["centres"] + 3 * 8 * of["lists"]),  # and where lists begin
    }
    stages = {}
    for name in largest["stages"]:
        cpu, moved = float(np.dot(fits[name], terms(name, images))), read[name] + written[name]
        alone = {"centres": a["cpus_a_node"] * a["speed_of_learning"], "frame": 1.0, "places": 1.0}
        computing = cpu / alone.get(name, a["nodes"] * a["cpus_a_node"])
        link = a["link_gb_a_second"] * 1e9 * (1 if name in alone else a["nodes"])
        moving = moved / min(link, a["storage_gb_a_second"] * 1e9)
        stages[name] = {
            "cpu_hours": cpu / 3600,
            "moved_tb": moved / 1e12,
            "hours": max(computing, moving) / 3600,
            "bound_by": "computing" if computing > moving else "moving",
        }
    return {
        "images": images,
        "cpu_hours": sum(stage["cpu_hours"] for stage in stages.values()),
        "hours": sum(stage["hours"] for stage in stages.values()),
        "disk_tb": sum(written.values()) / 1e12,
        "moved_tb": sum(stage["moved_tb"] for stage in stages.values()),
        "stages": stages,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="JSON of neighbour_scale.py")
    arguments = parser.parse_args()
    found = json.loads(arguments.file.read_text(encoding="utf-8"))
    model = modelled(found["rows"])
    if model is None:
        raise SystemExit(f"{arguments.file}: two sizes are needed, the larger of {LEAST:,} images or more")
    write_json(arguments.file, found | {"model": model})
    print(json.dumps(model, indent=2))


if __name__ == "__main__":
    main()
