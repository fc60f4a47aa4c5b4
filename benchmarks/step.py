"""How fast a training step is, how near it comes to the machine, and where its time goes: on the CPU, in one run.

    python benchmarks/step.py [RECIPE ...] [--steps 10] [--rounds 5] [--busy [--run RUN]] [--profile] [--json step.json]

For the first and the last stage of each recipe: operations of a step as PyTorch counts them; seconds of a step with one
thread, with as many processes as CPUs, and with as many threads; and the share of what a product of matrices reaches in
the same process, with the same threads and number format. All ways take turns in every round, so that a machine whose
speed drifts slows all of them; a ratio is the median of the rounds' ratios. --busy measures the same beside processes
that do nothing but keep a CPU busy (benchmarks/busy.py), --profile where the time goes (benchmarks/phases.py).
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import busy, phases
from benchmarks.ways import CPU, ONE, Case, Way, cases_of
from infoae.cpus import available_cpus
from infoae.distributed import collectives
from infoae.files import write_json
from infoae.runs.run import Run

SIDE = 2048
"""Rows and columns of the matrices whose product is what the machine can do."""
PRODUCTS = 8


def operations(case: Case) -> int:
    """Return the floating-point operations of a step, as PyTorch counts them: those of products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        case.take(0)
    return int(counter.get_total_flops())


def peak(dtype: torch.dtype) -> float:
    """Return operations a second of the best of some products of matrices, of all processes of a group together."""
    left, right = (torch.randn(SIDE, SIDE, dtype=dtype) for _ in range(2))
    left @ right
    collectives.any_rank(False, CPU)  # so that all begin together
    times = []
    for _ in range(PRODUCTS):
        started = time.perf_counter()
        left @ right
        times.append(time.perf_counter() - started)
    mine = torch.tensor([2 * SIDE**3 / min(times)], dtype=torch.float64)
    return (collectives.sum_over_ranks(mine) if collectives.size() > 1 else mine).item()


def turn(case: Case, steps: int) -> tuple[float, float]:
    """Return the median seconds of a step, and the peak beside it in operations a second."""
    top = peak(case.step.precision)
    return statistics.median(case.seconds(steps)), top


def speed(cases: list[Case], steps: int, rounds: int) -> list[dict[str, Any]]:
    """Measure every case in every way; what is a list has a figure of each round."""
    counted = [case.ways[0].run(partial(operations, case)) for case in cases]
    taken: dict[tuple[int, Way], list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for number, case in enumerate(cases):
            for way in case.ways:
                measured = way.run(partial(turn, case, steps), case.step.num_bytes)
                taken.setdefault((number, way), []).append(measured)
    found = []
    for number, (case, flop) in enumerate(zip(cases, counted, strict=True)):
        entry: dict[str, Any] = named(case) | {"batch": case.batch, "operations": flop, "ways": {}}
        entry["precision"] = str(case.step.precision).removeprefix("torch.")
        alone = [seconds for seconds, _ in taken[number, case.ways[0]]]
        for way in case.ways:
            turns = taken[number, way]
            seconds = [each for each, _ in turns]
            entry["ways"][way.name] = {
                "processes": way.processes,
                "threads": way.threads,
                "seconds": seconds,
                "images_per_second": case.batch / statistics.median(seconds),
                "ratios": [one / each for one, each in zip(alone, seconds, strict=True)],
                "peak": [top for _, top in turns],
                "shares_of_peak": [flop / each / top for each, top in turns],
            }
        found.append(entry)
    return found


def named(case: Case) -> dict[str, Any]:
    return {"recipe": case.recipe, "stage": case.stage.name}


def speed_lines(found: list[dict[str, Any]]) -> list[str]:
    """Return the speeds as a table for people."""
    lines = [f"{'recipe':<14}{'stage':<20}{'GFLOP':>7}  {'way':<12}{'ms':>7}{'images/s':>10}{'ratio':>7}  of the peak"]
    for entry in found:
        for name, way in entry["ways"].items():
            ratio, share = (statistics.median(way[key]) for key in ("ratios", "shares_of_peak"))
            lines.append(
                f"{entry['recipe']:<14}{entry['stage']:<20}{entry['operations'] / 1e9:7.1f}  {name:<12}"
                f"{1e3 * statistics.median(way['seconds']):7.0f}{way['images_per_second']:10.0f}{ratio:7.2f}  "
                f"{share:.2f} of {statistics.median(way['peak']) / 1e9:,.0f} GFLOP/s"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=["mnist", "mnist-best"], metavar="RECIPE")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="section.key=value")
    parser.add_argument("--steps", type=int, default=10, help="steps of each way in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--busy", action="store_true", help="also beside one and two busy processes")
    parser.add_argument("--run", type=Path, help="a run's folder, to classify with its bundle beside those")
    parser.add_argument("--profile", action="store_true", help="also by phase of a step and by operation")
    parser.add_argument("--json", type=Path, help="JSON file of all figures")
    arguments = parser.parse_args()
    run = Run.open(arguments.run) if arguments.run else None  # before minutes of measuring
    cpus = available_cpus()
    cases = [case for recipe in arguments.recipes for case in cases_of(recipe, arguments.settings, cpus)]
    result: dict[str, Any] = {"cpus": cpus, "torch": torch.__version__} | {
        key: getattr(arguments, key) for key in ("settings", "steps", "rounds")
    }
    print(f"{cpus} CPUs, medians of {arguments.rounds} rounds of {arguments.steps} steps; ratios are to {ONE}")
    result["speed"] = speed(cases, arguments.steps, arguments.rounds)
    print("\n".join(speed_lines(result["speed"])), flush=True)
    if arguments.profile:
        bandwidth = result["copy_bandwidth"] = phases.copy_bandwidth()
        result["profile"] = [named(case) | phases.measure(case, arguments.steps) for case in cases]
        print("\n".join(phases.lines(result["profile"], bandwidth)), flush=True)
    if arguments.busy:
        result["busy"] = busy.measure(cases, cpus, arguments.rounds, run)
        print("\n".join(busy.lines(result["busy"])), flush=True)
    if arguments.json:
        write_json(arguments.json, result)


if __name__ == "__main__":
    main()
