"""Files that infoae writes and reads back, a bundle's and a run's, and what reads them.

A stranger may have made the whole folder, so what a hash vouches for is damaged together with its hash, too.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from infoae.config import Config, recipes
from infoae.deploy.bundle import CHECKSUMS, MANIFEST, SAMPLE, write_checksums
from infoae.deploy.classifier import Classifier
from infoae.deploy.generator import Generator
from infoae.deploy.job_folder import DESCRIPTION, JobFolder
from infoae.files import write_json
from infoae.methods.registry import load, method_of
from infoae.pseudolabels import pairs, pseudo_labels
from infoae.reproduce import seeds as results
from infoae.runs import checkpoint, images, names
from infoae.runs.checkpoint import Checkpoint, State
from infoae.runs.run import CATEGORIES, CONFIG, ENVIRONMENT, IMAGES, METRICS, NAMES, NEIGHBOURS, PSEUDO_LABELS, Run
from infoae.tune import record, space
from infoae.tune.record import Epoch, Sweep, Trial
from tests.faults import seeds
from tests.faults.readers import Kind
from tests.helpers.bundles import make_bundle

SETTINGS = (
    "model.channels=1", f"model.image_size={seeds.SIDE}", "model.width=2", "model.hidden_dim=8", "model.latent_dim=4",
    "model.num_categories=3", "neighbours.count=2", "neighbours.merging_count=2", "train.device=cpu",
)  # fmt: skip
BUNDLE, RUN = Path("made"), Path("runs/r")
STEP = "checkpoints/step-00000001"
JOB: dict[str, Any] = {"model": 1, "columns": ["path", "label"]}
TAKEN: dict[str, Any] = {"stored": "5 rows", "resume": True, "differences": "model"}
CPU = torch.device("cpu")


def prepare() -> None:
    """Make a bundle, and a run with every file that one may have, in the folder that this process is in."""
    make_bundle(BUNDLE, seeds.SHAPE)
    config = _config()
    run = Run.create(RUN.parent, RUN.name, "smoke", config)
    model = method_of(config).build(config).state_dict()
    checkpoint.save(run.checkpoints, Checkpoint(1, 1, 2.5, 0.25), State({"model": model}))
    run.add_environment({"torch": "2", "threads": 1})
    images.keep(run, images.identify(seeds.PIXELS), config.data)
    (run.path / METRICS).write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "loss": NaN}\n')
    write_json(run.path / CATEGORIES, {"information_kept": {"2": 0.5, "3": 0.75}})
    names.store(run, ["one", None, "ö"], 1)
    np.savez(run.path / NEIGHBOURS, neighbours=np.zeros((6, config.neighbours.num_kept()), np.int32), source="x")
    pseudo_labels.save(run, np.arange(6), 1)
    measures = {"score": 0.5, "accuracy": 0.75, "generated": {"recovered": 0.5}, "seconds_training": 2.5}
    write_json(run.path / "seed-0.json", measures | {"seed": 0, "config": config.settings(), "environment": {}})
    record.save(_sweep(config), run.path)
    (run.path / ".x.partial").mkdir()
    write_json(run.path / ".x.partial" / DESCRIPTION, JOB)


@functools.cache
def _config() -> Config:
    return recipes.load("smoke", SETTINGS)


def _sweep(config: Config) -> Sweep:
    found = space.load("lambdas", config)
    values = next(space.grid(found))
    trial = Trial(number=0, run="r-000", values=values, epochs=[Epoch(epoch=1, score=0.5)])
    return Sweep(
        name="r", recipe="smoke", config=config, space=found, search="random", scheduler="none",
        metric="mutual_information", num_trials=2, trials=[trial],
    )  # fmt: skip


def classify(_: Path) -> None:
    """Use the classifier of a bundle, whose hashes are those of the files there are."""
    write_checksums(BUNDLE)
    classifier = Classifier(BUNDLE, "cpu", num_threads=1)
    classifier.classify(np.zeros((2, *classifier.manifest.image.shape), np.uint8))


def generate(_: Path) -> None:
    """Use the generator and the decoder of a bundle, whose hashes are those of the files there are."""
    write_checksums(BUNDLE)
    generator = Generator(BUNDLE, "cpu", num_threads=1)
    generator.generate(0, 2, 0)
    generator.decode(np.zeros((2, generator.manifest.latent_dim), np.float32))


def use_run(_: Path) -> None:
    """Use the model of a run, whose hashes are those of the files there are."""
    path = RUN / STEP / "checkpoint.json"
    content = json.loads(path.read_text())
    weights = (RUN / STEP / "model.safetensors").read_bytes()
    content["sha256"] = {"model.safetensors": hashlib.sha256(weights).hexdigest()}
    path.write_bytes(_digested(json.dumps(content).encode()))
    load(RUN).classify(seeds.PIXELS)


def _digested(content: bytes) -> bytes:
    """Return a checkpoint.json with the digest of what it says, if it says anything."""
    try:
        found = json.loads(content)
        found.pop("digest", None)
        return json.dumps(found | {"digest": checkpoint._digest(found)}).encode()
    except (ValueError, AttributeError, TypeError, RecursionError):
        return content


def _file_of(folder: Path, name: str, read: Callable[[Path], object], finish: Any = None) -> Kind:
    group = "a bundle" if folder == BUNDLE else "a run"
    return Kind(group, str(folder / name), lambda: [(folder / name).read_bytes()], read, finish)


def _members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name.removesuffix(".npy"): archive.read(name) for name in archive.namelist()}


def _member_of(folder: Path, file: str, name: str, read: Callable[[Path], object]) -> Kind:
    """An array of an `.npz` file: damaged within, the file's own checksum is true."""
    kind = _file_of(folder, file, read, lambda array: seeds.npz(**_members(folder / file) | {name: array}))
    return dataclasses.replace(kind, seeds=lambda: [_members(folder / file)[name]])


def _run() -> Run:
    return Run.open(RUN)


WRITTEN = {
    MANIFEST: _file_of(BUNDLE, MANIFEST, classify),
    f"{MANIFEST}, generated": _file_of(BUNDLE, MANIFEST, generate),
    CHECKSUMS: _file_of(BUNDLE, CHECKSUMS, lambda _: Classifier(BUNDLE, "cpu", num_threads=1)),
    SAMPLE: _file_of(BUNDLE, SAMPLE, classify),
    f"images of {SAMPLE}": _member_of(BUNDLE, SAMPLE, "images", classify),
    f"latents of {SAMPLE}": _member_of(BUNDLE, SAMPLE, "latent", classify),
    f"an array of {NEIGHBOURS}": _member_of(
        RUN, NEIGHBOURS, "neighbours", lambda _: pairs.load(_run(), seeds.PIXELS, _config(), CPU)
    ),
    "classifier.onnx": _file_of(BUNDLE, "classifier.onnx", classify),
    "generator.onnx": _file_of(BUNDLE, "generator.onnx", generate),
    CONFIG: _file_of(RUN, CONFIG, use_run),
    "model.safetensors": _file_of(RUN, f"{STEP}/model.safetensors", use_run),
    "checkpoint.json": _file_of(RUN, f"{STEP}/checkpoint.json", lambda _: _run().checkpoint("best"), _digested),
    ENVIRONMENT: _file_of(RUN, ENVIRONMENT, lambda _: _run().environments()),
    CATEGORIES: _file_of(RUN, CATEGORIES, lambda _: _run().information_kept()),
    METRICS: _file_of(RUN, METRICS, lambda _: _run().forget_metrics_after(10**30)),
    NAMES: _file_of(RUN, NAMES, lambda _: names.stored(_run(), 3, 1)),
    IMAGES: _file_of(RUN, IMAGES, lambda _: images.keep(_run(), images.identify(seeds.PIXELS), _config().data)),
    NEIGHBOURS: _file_of(RUN, NEIGHBOURS, lambda _: pairs.load(_run(), seeds.PIXELS, _config(), CPU)),
    PSEUDO_LABELS: _file_of(RUN, PSEUDO_LABELS, lambda _: pseudo_labels.load(_run(), 6, 1, CPU)),
    "seed-0.json": _file_of(RUN, "seed-0.json", lambda path: results.read(path)),
    "sweep.json": _file_of(RUN, "sweep.json", lambda _: record.load(str(RUN), RUN.parent)),
    "job.json": _file_of(RUN, f".x.partial/{DESCRIPTION}", lambda _: JobFolder(RUN / "x").take(JOB, **TAKEN)),
}
