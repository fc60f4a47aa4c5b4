"""The name of each table on the pages, and what makes it."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.pages import cost, experiments, limits, methods, ray_metrics, recipes, settings, speed
from benchmarks.pages.results import Results

TABLES: dict[str, Callable[[Results], list[str]]] = {
    "readme": recipes.readme,
    "claims": recipes.claims,
    "mnist": recipes.seeds("mnist"),
    "mnist-best": recipes.seeds("mnist-best", one_more=("mnist-best-two-cores", 145)),
    "mnist-best-width-16": recipes.seeds("mnist-best-width-16"),
    "mnist-paper-dcgan": recipes.seeds("mnist-paper-dcgan"),
    "fashion-mnist": recipes.seeds("fashion-mnist"),
    "photos": recipes.seeds("photos"),
    "photos-features": recipes.seeds("photos-features"),
    "paper-sweep": experiments.paper_sweep,
    "sweep": experiments.sweep,
    "kills": experiments.kills,
    "mutations": experiments.mutations,
    "fuzzing": experiments.fuzzing,
    "limits": limits.table_of,
    "ray-metrics": ray_metrics.table_of,
    "four-nodes": experiments.four_nodes,
    "few-labels": experiments.few_labels,
    "neighbours": experiments.neighbours,
    "neighbour-search": experiments.neighbour_search,
    "scaling": speed.scaling,
    "scaling-avx2": speed.scaling_avx2,
    "network": speed.network,
    "cost": cost.cost,
    "classify": speed.classify,
    "latency": speed.latency,
    "train-h100": speed.train_h100,
    "auto": experiments.auto,
    "unbalanced": experiments.unbalanced("unbalanced"),
    "unbalanced-cut": experiments.unbalanced("unbalanced-cut"),
    "unbalanced-tenth": experiments.unbalanced("unbalanced-tenth"),
    "choice": experiments.choice,
    "clicks": experiments.clicks,
    "sorting": experiments.sorting,
    "score": experiments.score,
    "simple-clusterings-mnist": experiments.simple_clusterings("mnist"),
    "simple-clusterings-cifar10": experiments.simple_clusterings("cifar10"),
    "settings-by-method": settings.by_method,
    "augmentation-by-kind": settings.by_kind,
    "table1": methods.table1,
    "table1-short": methods.table1_short,
    "table1-sources": methods.table1_sources,
}
