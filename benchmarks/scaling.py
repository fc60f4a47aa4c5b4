"""How training scales: one worker against two, what they send each other, start-up, and a model of many GPUs.

    python benchmarks/scaling.py [--config mnist] [--steps 20] [--rounds 5] [--out scaling.json]

Workers are real processes of one thread each, joined by gloo on the CPU. All situations take turns in every round, so
that a machine whose speed drifts slows all of them; a ratio is the median of the rounds' ratios. Two workers that do
not talk to each other are what the machine itself allows. The figures for 8 to 512 GPUs are a model, not a measurement:
its assumptions are printed with it.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist

from infoae import data
from infoae.config import recipes
from infoae.data.sampler import batches
from infoae.device import resolve_precision
from infoae.distributed import collectives
from infoae.files import write_json
from infoae.methods.schedules import schedule_of
from infoae.model import InfoAE
from infoae.planning import with_image_shape
from infoae.step import Step

COMMAND = [sys.executable, "-c", "from infoae.cli.main import main; main()"]
WARM_UP = 3  # steps
GPUS = (8, 64, 512)
LINKS = {  # name -> (bytes a second, seconds of latency a hop) of 8 GPUs in a node, and of nodes of 8
    "NVLink 450 GB/s, then InfiniBand 8 x 400 Gb/s a node": ((450e9, 3e-6), (400e9, 5e-6)),
    "NVLink 450 GB/s, then Ethernet 100 Gb/s a node": ((450e9, 3e-6), (12.5e9, 30e-6)),
}


@dataclass(frozen=True)
class Situation:
    """Workers that train together, or each for itself."""

    name: str
    workers: int
    batch: int
    """Images a step, of all that train together."""
    together: bool = True


@dataclass
class Meter:
    """Counts and times all-reduces, also those for which the CPU gathers and sums."""

    calls: list[tuple[str, int]] = field(default_factory=list)
    """Operation and bytes, in order."""
    seconds: float = 0.0

    @contextmanager
    def installed(self) -> Iterator[None]:
        with self._metered("all_reduce", 0), self._metered("all_gather", 1):
            yield

    def _metered(self, operation: str, position: int) -> Any:
        original = getattr(dist, operation)

        def call(*arguments: Any, **options: Any) -> Any:
            self.calls.append((operation, arguments[position].nbytes))
            with self._timed():
                work = original(*arguments, **options)
            return work if work is None else _MeteredWork(work, self)

        return mock.patch.object(dist, operation, call)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - started


@dataclass
class _MeteredWork:
    """An all-reduce under way: only what is waited for it counts, not what is computed meanwhile."""

    work: Any
    meter: Meter

    def wait(self) -> None:
        with self.meter._timed():
            self.work.wait()


def train_rank(rank: int, situation: Situation, store: str, source: str, settings: list[str], steps: int) -> Any:
    """Train `steps` steps as one worker; return what was measured. Runs in a process of its own."""
    torch.set_num_threads(1)
    ranks = situation.workers if situation.together else 1
    if ranks > 1:
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    run = recipes.load(source, [*settings, f"train.batch_size={situation.batch}"])
    train = data.load(run.data, "train")
    run, images = with_image_shape(run, train), torch.tensor(train.images)
    order = batches(run.seed, 0, len(images), situation.batch)
    device = torch.device("cpu")
    torch.manual_seed(0)
    step = Step(InfoAE(run.model), run, device, resolve_precision(run.train.precision, device))

    stage = schedule_of(run).stages[-1]

    def take(count: int, first: int) -> int:
        """Do what Trainer does in a step; return the images this rank saw."""
        seen = 0
        for index in range(first, first + count):
            indices = order[index % len(order)]
            share = collectives.share(len(indices))
            step(images[torch.from_numpy(indices[share.slice])], index, stage, share.total)
            collectives.any_rank(False, device)
            seen += share.stop - share.start
        return seen

    take(WARM_UP, 0)
    meter = Meter()
    with meter.installed():
        started = time.perf_counter()
        seen = take(steps, WARM_UP)
        seconds = time.perf_counter() - started
    calls = meter.calls[: len(meter.calls) // steps]
    measured: dict[str, Any] = {"seconds": seconds / steps, "images": seen / steps, "transfer": 0.0}
    measured |= {"sizes": [size for _, size in calls], "communication": meter.seconds / steps}
    if ranks > 1:
        measured["transfer"] = _transfer(calls, steps)
        dist.destroy_process_group()
    return measured | {"parameters": sum(parameter.numel() for parameter in step.model.parameters())}


def _transfer(calls: list[tuple[str, int]], repeats: int) -> float:
    """Seconds that a step's all-reduces take one after another, with nothing computed in between to wait for."""
    buffers = [(operation, torch.zeros(size, dtype=torch.uint8)) for operation, size in calls]
    dist.barrier()
    started = time.perf_counter()
    for _ in range(repeats):
        for operation, buffer in buffers:
            gathered = [torch.empty_like(buffer) for _ in range(dist.get_world_size())]
            dist.all_reduce(buffer) if operation == "all_reduce" else dist.all_gather(gathered, buffer)
    return (time.perf_counter() - started) / repeats


def measure(situation: Situation, source: str, settings: list[str], steps: int) -> dict[str, Any]:
    """Run a situation's workers; return images a second of all, and times and sizes of a step."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(situation.workers, context) as pool:
        store = str(Path(folder) / "store")
        jobs = [
            pool.submit(train_rank, rank, situation, store, source, settings, steps)
            for rank in range(situation.workers)
        ]
        ranks = [job.result() for job in jobs]
    seconds = max(rank["seconds"] for rank in ranks)
    mean = {name: statistics.mean(rank[name] for rank in ranks) for name in ("communication", "transfer")}
    rate = sum(rank["images"] for rank in ranks) / seconds
    return {**ranks[0], **mean, "seconds": seconds, "images_per_second": rate}


def start_up(source: str, settings: list[str], options: list[str]) -> float:
    """Seconds from the command to the first line of metrics.jsonl, which is the first step's."""
    with tempfile.TemporaryDirectory() as runs, tempfile.TemporaryFile() as output:
        metrics = Path(runs) / "first" / "metrics.jsonl"
        chosen = [part for setting in [*settings, "train.log_every=1"] for part in ("--set", setting)]
        command = [*COMMAND, "train", "--config", source, "--name", "first", "--runs", runs, *options, *chosen]
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        while not (metrics.exists() and metrics.stat().st_size) and process.poll() is None:
            time.sleep(0.01)
        seconds = time.perf_counter() - started
        process.terminate()  # it saves after the step and stops
        try:
            code = process.wait(timeout=120)
        finally:
            process.kill()
        if code not in (0, 130):
            output.seek(0)
            raise SystemExit(output.read().decode())
    return seconds


def modelled(
    gpus: int, sizes: list[int], compute: float, links: tuple[tuple[float, float], tuple[float, float]]
) -> Any:
    """Seconds of communication and efficiency of a step on `gpus` GPUs, each with the batch that `compute` is for."""
    bandwidth, latency = links[gpus > 8]
    ring = 2 * (gpus - 1) / gpus * sum(sizes) / bandwidth
    tree = len(sizes) * 2 * math.ceil(math.log2(gpus)) * latency
    seconds = ring + tree
    efficiency = compute / (compute + seconds)
    return {"seconds": seconds, "efficiency": efficiency, "compute_for_90_percent": 9 * seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="mnist")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="section.key=value")
    parser.add_argument("--batch", type=int, help="images a step of one worker; the recipe's batch if not given")
    parser.add_argument("--steps", type=int, default=20, help="steps of each situation in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gpu-step", type=float, help="measured milliseconds a step of one GPU with --batch images")
    parser.add_argument("--gpu-ratio", type=float, default=50.0, help="assumed: a GPU is so many times this CPU's core")
    parser.add_argument("--no-start-up", action="store_true", help="leave out the commands, which need free CPUs")
    parser.add_argument("--out", type=Path, help="JSON file of all figures")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    arguments.batch = arguments.batch or recipes.load(arguments.config, arguments.settings).train.batch_size
    result = scaling(arguments)
    if not arguments.no_start_up:
        result["seconds_to_first_step"] = first_steps(arguments)
    result["model"] = model(arguments, result)
    if arguments.out:
        write_json(arguments.out, result)


def scaling(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure one and two workers and print what came out."""
    situations = [
        Situation("one worker", 1, arguments.batch),
        Situation("two, weak scaling", 2, 2 * arguments.batch),
        Situation("two, strong scaling", 2, arguments.batch),
        Situation("two that do not talk", 2, arguments.batch, together=False),
    ]
    rounds: dict[str, list[dict[str, Any]]] = {situation.name: [] for situation in situations}
    for _ in range(arguments.rounds):
        for situation in situations:
            rounds[situation.name].append(measure(situation, arguments.config, arguments.settings, arguments.steps))
    print(f"recipe {arguments.config}, {arguments.rounds} rounds of {arguments.steps} steps, one thread a worker")
    result: dict[str, Any] = {"config": arguments.config, "settings": arguments.settings, "batch": arguments.batch}
    for situation in situations:
        taken = rounds[situation.name]
        rates = [one["images_per_second"] for one in taken]
        ratios = [rate / one["images_per_second"] for rate, one in zip(rates, rounds["one worker"], strict=True)]
        entry: dict[str, Any] = {"batch": situation.batch, "images_per_second": rates, "ratios": ratios}
        entry |= {name: statistics.median(one[name] for one in taken) for name in ("seconds", "communication")}
        entry |= {"transfer": statistics.median(one["transfer"] for one in taken), "sizes": taken[0]["sizes"]}
        result[situation.name] = entry
        print(
            f"{situation.name:<21} batch {situation.batch:5}  {statistics.median(rates):7.0f} images/s  "
            f"ratio {statistics.median(ratios):.2f} (min {min(ratios):.2f}, max {max(ratios):.2f})  "
            f"{entry['seconds'] * 1e3:.0f} ms a step, {entry['communication'] / entry['seconds']:.1%} in all-reduces "
            f"({entry['transfer'] / entry['seconds']:.1%} if nobody had to be waited for)"
        )
    sizes, parameters = result["two, weak scaling"]["sizes"], rounds["one worker"][0]["parameters"]
    print(f"{len(sizes)} all-reduces and {sum(sizes):,} bytes a step and rank; {parameters:,} parameters")
    return result | {"parameters": parameters}


def first_steps(arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Measure the commands' start and print it."""
    ways = {"in one process": [], "two workers, with Ray": ["--workers-per-node", "2"]}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, options in ways.items():
            seconds[name].append(start_up(arguments.config, arguments.settings, options))
    for name, values in seconds.items():
        middle, ends = statistics.median(values), f"(min {min(values):.1f}, max {max(values):.1f})"
        print(f"first step {name:<22} {middle:5.1f} s after the command {ends}")
    return seconds


def model(arguments: argparse.Namespace, result: dict[str, Any]) -> dict[str, Any]:
    """Print efficiency at many GPUs from the measured bytes, with every assumption."""
    sizes = result["two, weak scaling"]["sizes"]
    core = result["one worker"]["seconds"]
    compute = arguments.gpu_step / 1e3 if arguments.gpu_step else core / arguments.gpu_ratio
    origin = "as given" if arguments.gpu_step else f"assumed: {core * 1e3:.0f} ms here / {arguments.gpu_ratio:g}"
    print(f"""
Model of weak scaling, not a measurement. Assumed:
a GPU computes a step of {arguments.batch} images in {compute * 1e3:.2f} ms ({origin});
the {len(sizes)} all-reduces and {sum(sizes):,} bytes of a step measured above; each all-reduce takes
2(n-1)/n x bytes / bandwidth (ring) + 2 log2(n) x latency (tree); none overlaps computing; nobody waits for another.""")
    figures: dict[str, Any] = {"compute_seconds": compute, "compute_is": origin}
    for name, links in LINKS.items():
        figures[name] = {}
        print(f"{name}: {' and '.join(f'{seconds * 1e6:g} us' for _, seconds in links)} a hop")
        for gpus in GPUS:
            entry = figures[name][str(gpus)] = modelled(gpus, sizes, compute, links)
            images = arguments.batch * entry["compute_for_90_percent"] / compute
            print(
                f"  {gpus:4} GPUs, batch {gpus * arguments.batch:6}: efficiency {entry['efficiency']:4.0%}, "
                f"{entry['seconds'] * 1e3:.2f} ms of communication; 90 % from about {math.ceil(images)} images a GPU"
            )
    return figures


if __name__ == "__main__":
    main()
