"""What the methods come to on the seeds of the paper's Table 1 that were trained so far."""

from __future__ import annotations

import json
import statistics
from typing import Any

from benchmarks.pages.results import Results, shown, table

FOLDER = "table1/own"
SHOWN = {
    "accuracy": "one-to-one",
    "many_to_one": "many-to-one",
    "nmi": "NMI",
    "frechet_distance": "Fréchet distance",
    "seconds_training": "training (s)",
}


def so_far(results: Results) -> list[str]:
    """Each method's means over its seeds, and the worst many-to-one accuracy; then how each was made."""
    names = [name for name in results.sources if name.startswith(f"{FOLDER}/")]
    rows, sources = [], list[str]()
    for name in names:
        seeds = _seeds(results, name)
        means = {key: statistics.fmean(seed[key] for seed in seeds) for key in SHOWN}
        model, numbers = seeds[0]["config"], ", ".join(str(seed["seed"]) for seed in seeds)
        what = [f"`{model['method']}`", str(model["model"]["num_categories"]), numbers]
        rows.append([*what, *(shown(key, mean) for key, mean in means.items())])
        sources += results.source(name)
    return [*table(["method", "categories", "seeds", *SHOWN.values()], rows), "", *sources]


def _seeds(results: Results, name: str) -> list[dict[str, Any]]:
    paths = sorted((results.folder / name).glob("seed-*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]
