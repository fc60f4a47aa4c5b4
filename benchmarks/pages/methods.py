"""The paper's Table 1: what was published of each method, and what its seeds came to here."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

import yaml

from benchmarks.pages.results import Results, shown, table

TABLE = Path(__file__).resolve().parents[2] / "configs" / "tables" / "table1.yaml"
FOLDER = "table1/own"
PROTOCOLS = {"one-to-one": "accuracy", "many-to-one": "many_to_one"}
MEANS = {
    "nmi": "NMI",
    "diversity_pixels": "diversity",
    "frechet_distance": "Fréchet",
    "seconds_training": "training (s)",
}


def table1(results: Results) -> list[str]:
    """A row for each of configs/tables/table1.yaml that has seeds, with every measure."""
    rows = [
        [
            row["heading"],
            _published(row),
            *(_error(seeds, measure) for measure in PROTOCOLS.values()),
            _of_highest_score(row, seeds),
            *(_mean(seeds, key) for key in MEANS),
            _numbers(seeds),
        ]
        for row, _, seeds in _rows(results)
        if seeds
    ]
    errors = [f"error {each}, %" for each in PROTOCOLS]
    return table(["row", "published error, %", *errors, "of the highest score, %", *MEANS.values(), "seeds"], rows)


def table1_short(results: Results) -> list[str]:
    """The same by the protocol of what was published, or else of what the row's categories allow."""
    rows = [
        [row["heading"], _published(row), _ours(row, seeds), _of_highest_score(row, seeds), _numbers(seeds)]
        for row, _, seeds in _rows(results)
        if seeds
    ]
    return table(["method", "published error, %", "here, %", "of the highest score, %", "seeds"], rows)


def table1_sources(results: Results) -> list[str]:
    """How the seeds of each row were made."""
    return results.source(*(name for _, name, seeds in _rows(results) if seeds))


def seeds(results: Results, slug: str) -> list[dict[str, Any]]:
    """A row's seeds by the name of its folder, its generator's measures beside the others."""
    return _seeds(results, f"{FOLDER}/{slug}")


def highest_score(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the seed that `--restarts` would have chosen among these."""
    return max(seeds, key=lambda seed: float(seed["score"]))


def _rows(results: Results) -> list[tuple[dict[str, Any], str, list[dict[str, Any]]]]:
    """Each row as the file has it, the name of its results, and its seeds, or none."""
    found = []
    for row in yaml.safe_load(TABLE.read_text(encoding="utf-8"))["rows"]:
        slug = re.sub(r"[^a-z0-9]+", "-", row["heading"].lower()).strip("-")
        name = f"{FOLDER}/{slug}" if (results.folder / FOLDER / slug).is_dir() else row["recipe"]
        found.append((row, name, _seeds(results, name)))
    return found


def _seeds(results: Results, name: str) -> list[dict[str, Any]]:
    paths = sorted((results.folder / name).glob("seed-*.json"))
    read = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return [seed | seed["generated"] | {"many_to_one": _many_to_one(seed)} for seed in read]


def _many_to_one(seed: dict[str, Any]) -> float:
    """Share of images whose class is that of most images of their category; older results have the confusion alone."""
    return float(sum(map(max, seed["confusion"])) / sum(map(sum, seed["confusion"])))


def _published(row: dict[str, Any]) -> str:
    published = row.get("published")
    return f"{published['error']} {published['protocol']} ({published['source']})" if published else "–"


def _ours(row: dict[str, Any], seeds: list[dict[str, Any]]) -> str:
    protocol = _protocol(row)
    return f"{_error(seeds, PROTOCOLS[protocol])} {protocol}"


def _protocol(row: dict[str, Any]) -> str:
    """By which errors were published, or else that which the row's number of categories allows."""
    more_than_classes = "many-to-one" if "settings" in row else "one-to-one"
    found: str = row.get("published", {}).get("protocol", more_than_classes)
    return found


def _of_highest_score(row: dict[str, Any], seeds: list[dict[str, Any]]) -> str:
    return f"{100 * (1 - highest_score(seeds)[PROTOCOLS[_protocol(row)]]):.2f}"


def _error(seeds: list[dict[str, Any]], measure: str) -> str:
    """Mean error with its deviation, and the worst."""
    errors = [100 * (1 - seed[measure]) for seed in seeds]
    if len(errors) == 1:
        return f"{errors[0]:.2f}"
    return f"{statistics.fmean(errors):.2f} (± {statistics.stdev(errors):.2f}), worst {max(errors):.2f}"


def _mean(seeds: list[dict[str, Any]], measure: str) -> str:
    """Of what a method has: one that draws no category has no diversity."""
    values = [seed[measure] for seed in seeds if seed.get(measure) is not None]
    return shown(measure, statistics.fmean(values)) if values else "–"


def _numbers(seeds: list[dict[str, Any]]) -> str:
    """Seeds as ranges: 100 to 104."""
    numbers = sorted(seed["seed"] for seed in seeds)
    if numbers and numbers == list(range(numbers[0], numbers[-1] + 1)) and len(numbers) > 2:
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers)) or "–"
