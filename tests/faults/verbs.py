"""The verbs that write, each on a few images: how to prepare, give and repeat it, and what it should have made."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.faults.patches import actors_here, cache_here, small_parts, trials_here

IMAGES, SIZE = 24, 8
SETTINGS = (
    "data.name=shards", "data.root=data", "model.width=2", "model.hidden_dim=8", "model.latent_dim=4",
    "model.num_categories=2", "train.batch_size=8", "train.epochs=2", "train.log_every=1", "train.save_every=2",
    "train.precision=fp32", "train.device=cpu",
)  # fmt: skip
HEADS = (
    "model.num_over_categories=4", "model.num_heads=2", "stages.mutual_information_epochs=1",
    "objective.weights.pseudo_label=1", "objective.pairs=neighbours", "neighbours.count=2",
    "neighbours.merging_count=2",
)  # fmt: skip


@dataclass(frozen=True)
class Verb:
    """A command; the functions are given the folder that it runs in."""

    arguments: list[str]
    prepare: Callable[[Path], object]
    load: Callable[[], object]
    """Imports what the command does."""
    again: Callable[[Path], list[list[str]]]
    """What to type after the command was killed."""
    result: Callable[[Path], Any]
    """What it has made, without what differs between two runs."""
    codes: tuple[int, ...] = (0,)
    patch: Callable[[], object] = lambda: None


def settings(*values: str) -> list[str]:
    return [part for value in values for part in ("--set", value)]


def write_data(folder: Path) -> None:
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        (folder / "data" / split).mkdir(parents=True)
        np.save(folder / "data" / split / "0.npy", random.integers(0, 256, (IMAGES, 1, SIZE, SIZE), np.uint8))


def write_pictures(folder: Path) -> None:
    random = np.random.default_rng(0)
    (folder / "pictures").mkdir(parents=True)
    for number in range(IMAGES):
        Image.fromarray(random.integers(0, 256, (SIZE, SIZE), np.uint8)).save(folder / "pictures" / f"{number}.png")


def write_bundle(folder: Path) -> None:
    from tests.helpers.bundles import make_bundle

    make_bundle(folder / "bundle", (1, SIZE, SIZE))
    write_pictures(folder)


def write_run(folder: Path) -> None:
    from infoae import launch, planning
    from infoae.launch import Executor

    write_data(folder)
    os.chdir(folder)
    launch.run(planning.planned("smoke", SETTINGS, Path("runs"), "r"), Executor())


def bytes_below(folder: Path, pattern: str = "*") -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob(pattern))
        if path.is_file()
    }


def trained(folder: Path) -> Any:
    """Weights of each run, what was measured on the way, and that everything else is there."""
    runs = folder / "runs"
    timed = ("seconds", "images_per_second", "data_wait")
    lines = {
        str(path.relative_to(runs)): [
            {key: value for key, value in json.loads(line).items() if key not in timed}
            for line in path.read_text().splitlines()
        ]
        for path in sorted(runs.rglob("metrics.jsonl"))
    }
    names = sorted(str(path.relative_to(runs)) for path in runs.rglob("*") if not path.name.endswith(".log"))
    return bytes_below(runs, "*.safetensors"), lines, names


def import_training() -> None:
    import infoae.launch
    import infoae.reporting.wandb
    import infoae.runs.names  # noqa: F401


def go_on(folder: Path) -> list[list[str]]:
    """Resume the run if it is there; one that had ended is only evaluated."""
    if not (folder / "runs" / "r").exists():
        return [TRAIN.arguments]
    if (folder / "runs" / "r" / "evaluation.json").exists():
        return []
    return [["train", "--resume", "r"]]


def unless_whole(verb: str, out: str) -> Callable[[Path], list[list[str]]]:
    return lambda folder: [] if (folder / out).exists() else [VERBS[verb].arguments]


def same(verb: str) -> Callable[[Path], list[list[str]]]:
    return lambda _: [VERBS[verb].arguments]


def go_on_with(verb: str) -> Callable[[Path], list[list[str]]]:
    return lambda folder: [
        VERBS[verb].arguments if command == TRAIN.arguments else command for command in go_on(folder)
    ]


def write_named_run(folder: Path) -> None:
    write_run(folder)
    (folder / "names.txt").write_text("ant\nbee\n")


def import_judging() -> None:
    import_training()
    import infoae.evaluation.figures  # noqa: F401


def import_reproducing() -> None:
    import_training()
    import infoae.reproduce.seeds
    import infoae.reproduce.summary  # noqa: F401


def import_export() -> None:
    import_training()
    import onnxscript  # noqa: F401

    import infoae.deploy.export  # noqa: F401


def import_runtime() -> None:
    pass


def import_ray() -> None:
    import_runtime()
    import infoae.deploy.ray_batch  # noqa: F401


def import_tuning() -> None:
    import_training()
    import infoae.tune.sweep  # noqa: F401


def parts(folder: Path) -> Any:
    from pyarrow import parquet

    return [(path.name, parquet.read_table(path).to_pylist()) for path in sorted((folder / "o").glob("*.parquet"))]


def tune_again(folder: Path) -> list[list[str]]:
    return [["tune", "--resume", "s"] if (folder / "runs" / "s").exists() else VERBS["tune"].arguments]


TRAIN = Verb(
    ["train", "--config", "smoke", *settings(*SETTINGS), "--name", "r"],
    write_data, import_training, go_on, trained,
)  # fmt: skip
VERBS: dict[str, Verb] = {
    "train": TRAIN,
    "train-heads": Verb(
        ["train", "--config", "smoke", *settings(*SETTINGS, *HEADS), "--name", "r"],
        write_data, import_training,
        go_on_with("train-heads"), trained,
    ),
    "train --data": Verb(
        ["train", "--config", "smoke", *settings(*SETTINGS[2:]), "--data", "pictures", "--name", "r"],
        write_pictures, import_training, go_on_with("train --data"),
        lambda folder: (trained(folder), bytes_below(folder / "cache", "*.npy")), patch=cache_here,
    ),
    "reproduce": Verb(
        ["reproduce", "smoke", *settings(*SETTINGS), "--seeds", "0-1", "--out", "results"],
        write_data, import_reproducing, same("reproduce"),
        lambda folder: (trained(folder), sorted(path.name for path in (folder / "results").iterdir())),
    ),
    "evaluate": Verb(
        ["evaluate", "r"], write_run, import_judging, same("evaluate"),
        lambda folder: (folder / "runs" / "r" / "evaluation.json").read_text(),
    ),
    "figures": Verb(
        ["figures", "r"], write_run, import_judging, same("figures"),
        lambda folder: sorted(path.name for path in (folder / "runs" / "r").rglob("*.png")),
    ),
    "name": Verb(
        ["name", "r", "--labels", "names.txt"], write_named_run, import_judging, same("name"),
        lambda folder: (folder / "runs" / "r" / "names.json").read_text(),
    ),
    "export": Verb(
        ["export", "r", "--onnx", "--out", "b"], write_run, import_export, unless_whole("export", "b"),
        lambda folder: (sorted(path.name for path in (folder / "b").iterdir()), bytes_below(folder / "b", "*.onnx")),
    ),
    "convert": Verb(
        ["convert", "pictures", "--out", "shards", "--size", "8", "--channels", "1"],
        write_pictures, import_runtime, unless_whole("convert", "shards"),
        lambda folder: bytes_below(folder / "shards"),
    ),
    "classify": Verb(
        ["classify", "pictures", "--model", "bundle", "--out", "o.csv", "--batch-size", "4"],
        write_bundle, import_runtime, lambda _: [[*VERBS["classify"].arguments, "--resume"]],
        lambda folder: (sorted(path.name for path in folder.iterdir()), (folder / "o.csv").read_text()),
        patch=small_parts,
    ),
    "classify --ray": Verb(
        ["classify", "pictures", "--ray", "--model", "bundle", "--out", "o", "--batch-size", "4"],
        write_bundle, import_ray,
        lambda folder: [] if (folder / "o").exists() else [[*VERBS["classify --ray"].arguments, "--resume"]],
        parts, patch=actors_here,
    ),
    "generate": Verb(
        ["generate", "--model", "bundle", "--out", "o", "--count", "2"],
        write_bundle, import_runtime, unless_whole("generate", "o"), lambda folder: bytes_below(folder / "o"),
    ),
    "augment": Verb(
        ["augment", "pictures", "--model", "bundle", "--out", "o", "--count", "2"],
        write_bundle, import_runtime, unless_whole("augment", "o"), lambda folder: bytes_below(folder / "o"),
    ),
    "tune": Verb(
        ["tune", "--config", "smoke", *settings(*SETTINGS), "--name", "s", "--trials", "2", "--scheduler", "none"],
        write_data, import_tuning, tune_again, trained, patch=trials_here,
    ),
}  # fmt: skip
