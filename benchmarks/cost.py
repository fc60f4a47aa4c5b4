"""What a training costs: seconds of a step, memory of a process, and the whole of a command, each beside a formula.

    python benchmarks/cost.py [--steps 8] [--rounds 3] [--run runs/latest] [--json cost.json]

Images in a batch, side of an image, width, over-categories and processes are changed one at a time. Each is measured
on made images in a process of its own, or in a group of processes, of one thread each; they take turns in every round.
What is timed is the last stage, in which everything is trained. The formula of a step is

    seconds = a + b * operations + c * bytes of activations

of those that fall to one CPU. Operations are those that PyTorch counts, bytes what infoae/memory.py expects that a step
holds. a, b and c are none below 0 and make the squares of the relative errors least. What is shown as the formula's
seconds comes from a fit to all other points. Memory is the peak of a process in steps of all stages, above what
libraries and images take, beside what infoae/memory.py expects.

With --run, steps, neighbours and evaluation are measured for that run's configuration, and their sum is shown beside
what the run took.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch.utils.flop_counter import FlopCounterMode

from infoae import memory
from infoae.config import Config, recipes
from infoae.cpus import available_cpus
from infoae.device import resolve_precision
from infoae.distributed import collectives, local_group
from infoae.files import write_json
from infoae.methods.registry import method_of
from infoae.methods.schedules import schedule_of
from infoae.stages import Stage
from infoae.step import Step

CPU = torch.device("cpu")
WARM_UP = 3  # steps
VALUES = {
    "batch": (250, 500, 1000),
    "side": (20, 28, 56),
    "width": (8, 16, 32),
    "over_categories": (20, 50, 200),
    "processes": (1, 2, 4),
}


@dataclass(frozen=True)
class Point:
    """What is measured at once."""

    batch: int = 500
    side: int = 28
    width: int = 16
    over_categories: int = 50
    """Answers of each head."""
    processes: int = 1

    def config(self, source: str, settings: list[str]) -> Config:
        """Return the configuration of a training whose batch is computed at once."""
        shape = [f"train.batch_size={self.batch}", f"train.micro_batch_size={self.batch}", f"model.width={self.width}"]
        shape += ["model.channels=1", f"model.image_size={self.side}"]
        shape += [f"model.num_over_categories={self.over_categories}"]
        return recipes.load(source, [*settings, *shape])

    def differs(self) -> str:
        """Return what is not as usual."""
        changed = [(each.name, getattr(self, each.name)) for each in fields(self)]
        return ", ".join(f"{name} {value}" for name, value in changed if value != getattr(USUAL, name)) or "default"


USUAL = Point()


def points(values: Mapping[str, tuple[int, ...]]) -> Iterator[Point]:
    """Yield the point where all is as usual, and those where one thing differs."""
    yield USUAL
    for name, several in values.items():
        yield from (replace(USUAL, **{name: value}) for value in several if value != getattr(USUAL, name))


def memory_now(entry: str) -> int:
    """Return the bytes of an entry of this process's status: VmRSS what it has in memory, VmHWM the most it had."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[entry].split()[0]) * 1024


def last_alone(config: Config) -> Config:
    """Return a configuration of the last stage alone; it is not validated, since pseudo-labels come from the others."""
    only = {"representation_epochs": 0, "mutual_information_epochs": 0, "pseudo_label_epochs": 0}
    return config.model_copy(update={"stages": config.stages.model_copy(update=only)})


def train_steps(config: Config, stages: Sequence[Stage], processes: int, threads: int, steps: int) -> dict[str, Any]:
    """Train `steps` steps of the last of `stages` on made images, after one of each.

    Returns their seconds, and operations and memory of one of the processes.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    channels, side = config.model.image_shape()
    shape = (config.train.batch_size, channels, side, side)
    images, partners = (torch.randint(0, 256, shape, dtype=torch.uint8) for _ in range(2))
    categories = config.model.num_categories
    labels = torch.randint(-1, categories if isinstance(categories, int) else 2, (2, len(images)))
    precision = resolve_precision(config.train.precision, CPU)

    small = config.model_copy(update={"model": config.model.model_copy(update={"width": 4})})
    first = Step(method_of(small).build(small), small, CPU, precision)
    for stage in stages:
        first(images[:32], 0, stage, None, partners[:32], labels[:, :32])
    before = memory_now("VmRSS")  # with all libraries that a step loads
    step = Step(method_of(config).build(config), config, CPU, precision)

    def take(index: int, stage: Stage) -> float:
        started = time.perf_counter()
        share = collectives.share(len(images))
        mine = share.slice
        step(images[mine], index, stage, share.total, partners[mine], labels[:, mine])
        collectives.any_rank(False, CPU)  # as Trainer asks whether to stop
        return time.perf_counter() - started

    def work() -> dict[str, Any]:
        for index, stage in enumerate([*stages, *[stages[-1]] * WARM_UP]):
            take(index, stage)
        seconds = [take(index, stages[-1]) for index in range(steps)]
        held = memory_now("VmHWM") - before
        with FlopCounterMode(display=False) as counter:
            take(0, stages[-1])
        return {"seconds": statistics.median(seconds), "operations": counter.get_total_flops(), "memory": held}

    return local_group.run(processes, work, step.num_bytes)


def measured(config: Config, stages: Sequence[Stage], processes: int, threads: int, steps: int) -> dict[str, Any]:
    """Return what `train_steps` does in a process that has done nothing else."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(train_steps, config, stages, processes, threads, steps).result()


def fit(features: NDArray[np.float64], seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what (N, 3) features are multiplied with to be relatively nearest to (N,) seconds; none is below 0."""
    relative = features / seconds[:, None]
    scale = np.maximum(relative.max(0), np.finfo(np.float64).tiny)
    found: NDArray[np.float64] = nnls(relative / scale, np.ones(len(seconds)))[0] / scale
    return found


def without_each(features: NDArray[np.float64], seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the seconds (N,) of each point by a fit to the others."""
    others = ~np.eye(len(seconds), dtype=bool)
    return np.array([row @ fit(features[rest], seconds[rest]) for row, rest in zip(features, others, strict=True)])


def of_steps(
    values: Mapping[str, tuple[int, ...]], source: str, settings: list[str], steps: int, rounds: int
) -> dict[str, Any]:
    """Measure all points in turns and fit the formula; return everything."""
    cpus = available_cpus()
    precision = resolve_precision(recipes.load(source, settings).train.precision, CPU)
    taken: dict[Point, list[dict[str, Any]]] = {point: [] for point in points(values)}
    for _ in range(rounds):
        for point, several in taken.items():
            config = point.config(source, settings)
            stages = schedule_of(config).stages
            several.append(measured(config, stages, point.processes, point.processes, steps))
    rows: list[dict[str, Any]] = []
    for point, several in taken.items():
        config = point.config(source, settings)
        whole, last = (memory.of_training(each, precision, point.processes) for each in (config, last_alone(config)))
        seconds = [one["seconds"] for one in several]
        row = asdict(point) | {"name": point.differs(), "seconds": statistics.median(seconds), "of_rounds": seconds}
        row |= {"operations": several[0]["operations"], "memory": statistics.median(one["memory"] for one in several)}
        row["activations"] = last.size - last.parameters * memory.BYTES_A_PARAMETER
        row["processes_a_cpu"] = point.processes / min(point.processes, cpus)
        rows.append(row | {"memory_expected": whole.size})
    features = np.array(
        [[1.0, *(row["processes_a_cpu"] * row[name] for name in ("operations", "activations"))] for row in rows]
    )
    seconds_of = np.array([row["seconds"] for row in rows])
    for row, value in zip(rows, without_each(features, seconds_of).tolist(), strict=True):
        row["seconds_of_others"] = value
    errors = {
        "seconds": [abs(row["seconds_of_others"] / row["seconds"] - 1) for row in rows],
        "memory": [abs(row["memory_expected"] / row["memory"] - 1) for row in rows],
    }
    return {
        "config": source,
        "cpus": cpus,
        "precision": str(precision).removeprefix("torch."),
        "points": rows,
        "coefficients": dict(zip("abc", fit(features, seconds_of).tolist(), strict=True)),
        "errors": {name: {"median": statistics.median(all_), "max": max(all_)} for name, all_ in errors.items()},
    }


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield the table of the points and the formula."""
    yield f"recipe {found['config']}, {found['precision']}, {found['cpus']} CPUs; operations and memory of one process"
    yield f"{'':<20} {'ms':>7} {'formula':>8} {'error':>7} {'GFLOP':>7} {'GB':>6} {'expected':>9} {'error':>7}"
    for row in found["points"]:
        time_error = row["seconds_of_others"] / row["seconds"] - 1
        memory_error = row["memory_expected"] / row["memory"] - 1
        yield (
            f"{row['name']:<20} {1e3 * row['seconds']:7.1f} {1e3 * row['seconds_of_others']:8.1f} {time_error:+7.1%} "
            f"{row['operations'] / 1e9:7.2f} {row['memory'] / 1e9:6.3f} {row['memory_expected'] / 1e9:9.3f} "
            f"{memory_error:+7.1%}"
        )
    a, b, c = found["coefficients"].values()
    yield f"seconds = {a:.3g} + {b:.3g} * operations + {c:.3g} * bytes of activations"
    for name, error in found["errors"].items():
        yield f"error of {name}: median {error['median']:.1%}, at most {error['max']:.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="mnist")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="section.key=value")
    parser.add_argument("--steps", type=int, default=8, help="steps of each point in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--run", type=Path, help="folder of a finished run of infoae train, started once")
    parser.add_argument("--images", type=int, default=10_000, help="whose neighbours are sought to tell an image's")
    parser.add_argument("--json", type=Path, help="JSON file of all figures")
    arguments = parser.parse_args()
    result = of_steps(VALUES, arguments.config, arguments.settings, arguments.steps, arguments.rounds)
    print("\n".join(lines(result)))
    if arguments.run:
        from benchmarks import cost_of_run  # which measures steps as this does

        result["training"] = cost_of_run.measure(arguments.run, arguments.images, arguments.steps)
        print("\n".join(cost_of_run.lines(result["training"])))
    if arguments.json:
        write_json(arguments.json, result)


if __name__ == "__main__":
    main()
