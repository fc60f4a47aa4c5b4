"""Are two runs the same training? Weights, optimizer, scores, labels and metrics of two run folders, bit by bit.

    python benchmarks/same_training.py RUN OTHER

For a change that must not change what is computed: train with the commits before and after it (fp32, CPU, as many
threads), then compare. Times may differ, and names of version 0.1 are taken for those of today. Exits with 1 if
anything else does.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from infoae.runs.run import CHECKPOINTS, METRICS, NEIGHBOURS, OLD_PSEUDO_LABELS, PSEUDO_LABELS

RENAMED = {
    "loss/information": "loss/mutual_information",
    "loss/consensus": "loss/pseudo_label",
    "evaluation/labelled": "evaluation/pseudo_labelled",
}
TIMES = {"seconds", "images_per_second", "data_wait"}
OF_THE_FILE = {"format", "digest"}  # of checkpoint.json, which covers the seconds


def differences(one: Path, other: Path) -> Iterator[str]:
    """Yield a line for each thing in which two run folders differ."""
    names = {path.relative_to(one / CHECKPOINTS) for path in (one / CHECKPOINTS).rglob("*.*")}
    if names != {path.relative_to(other / CHECKPOINTS) for path in (other / CHECKPOINTS).rglob("*.*")}:
        yield "they have other checkpoints"
    for name in sorted(names):
        first, second = (run / CHECKPOINTS / name for run in (one, other))
        if second.exists() and _content(first) != _content(second):
            yield f"{name} differs"
    labels = [_array(run / PSEUDO_LABELS, run / OLD_PSEUDO_LABELS) for run in (one, other)]
    if not np.array_equal(*labels):
        yield "the pseudo-labels differ"
    neighbours = [_array(run / NEIGHBOURS) for run in (one, other)]
    if not np.array_equal(*neighbours):
        yield "the neighbours differ"
    lines = [_metrics(run / METRICS) for run in (one, other)]
    if len(lines[0]) != len(lines[1]):
        yield f"{len(lines[0])} and {len(lines[1])} lines of metrics"
    for first_line, second_line in zip(*lines, strict=False):
        if first_line != second_line:
            yield f"metrics of step {first_line['step']} differ"


def _content(path: Path) -> Any:
    if path.suffix != ".json":
        return path.read_bytes()
    return {key: value for key, value in json.loads(path.read_text()).items() if key not in TIMES | OF_THE_FILE}


def _array(*paths: Path) -> Any:
    for path in paths:
        if path.suffix == ".npz" and path.exists():
            return np.load(path, allow_pickle=False)["neighbours"]
        if path.exists():
            return np.load(path, allow_pickle=False)
    return np.empty(0)


def _metrics(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{RENAMED.get(key, key): value for key, value in line.items() if key not in TIMES} for line in lines]


def main() -> None:
    """Print what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs=2, type=Path)
    one, other = parser.parse_args().runs
    found = list(differences(one, other))
    print("\n".join(found) if found else f"{one} and {other} are the same training, bit for bit")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
