"""Whether training became slower: ratios of short benchmarks against committed ones, on a machine of the same kind.

    python benchmarks/check.py              # a line for each ratio that is too low; exit 1 if there is any
    python benchmarks/check.py --write      # measure anew what is committed, on a quiet machine

Times differ from machine to machine and from hour to hour; ratios of what took turns do so less. A ratio is the median
of its rounds, and too low if it is below the committed one by more than twice the deviation that the rounds had then,
and by more than 15 %. Ratios also depend on what a machine can do: on one with other features, nothing is compared.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from infoae.cpus import available_cpus
from infoae.device import resolve_precision
from infoae.files import write_json

ROOT = Path(__file__).resolve().parents[1]
COMMITTED = ROOT / "docs/results/ratios.json"
PROGRAMS = {  # each is given the file for its JSON at the end
    "train": ["benchmarks/train.py", "--steps", "10", "--rounds", "7", "--json"],
    "scaling": ["benchmarks/scaling.py", "--steps", "10", "--rounds", "5", "--no-start-up", "--out"],
    "step": ["benchmarks/step.py", "mnist", "--steps", "5", "--rounds", "7", "--json"],
}
RATIOS = ("ratios", "shares_of_peak")
"""Keys of lists that have a ratio of each round, the higher the better."""
OF_THE_MACHINE = "two that do not talk"
"""Says what the machine does, and nothing of infoae."""
LEAST = 0.15
"""Part of a ratio; a difference below it may be chance, however near each other the rounds were."""


def features() -> dict[str, Any]:
    """Return what ratios depend on."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return {
        "bf16": resolve_precision("auto", torch.device("cpu")) == torch.bfloat16,
        "amx": bool(capabilities.get("amx_tile")),
        "avx512": bool(capabilities.get("avx512_f")),
        "cpus": available_cpus(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def ratios_in(content: Any, name: str) -> Iterator[tuple[str, list[float]]]:
    """Yield the name of each ratio in a program's JSON, and its rounds."""
    if isinstance(content, list):
        for entry in content:
            if isinstance(entry, dict):
                which = [entry[key] for key in ("recipe", "stage") if key in entry]
                yield from ratios_in(entry, " ".join([name, *which]))
        return
    for key, value in content.items():
        if key in RATIOS:
            if set(value) != {1.0}:  # what the others are compared with
                yield f"{name} {key}", value
        elif isinstance(value, dict | list) and key != OF_THE_MACHINE:
            yield from ratios_in(value, f"{name} {key}")


def measured() -> dict[str, dict[str, float]]:
    """Run all programs; return the value of each ratio and its spread, the deviation of its rounds."""
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for program, command in PROGRAMS.items():
            file = Path(folder) / f"{program}.json"
            done = subprocess.run(
                [sys.executable, *command, str(file)], cwd=ROOT, stdout=subprocess.DEVNULL, check=False
            )
            if done.returncode:
                raise SystemExit(f"{command_of(program)} ended with exit code {done.returncode}")
            for name, rounds in ratios_in(json.loads(file.read_text(encoding="utf-8")), program):
                spread = statistics.stdev(rounds) if len(rounds) > 1 else 0.0
                found[name] = {"value": statistics.median(rounds), "spread": spread}
    return found


def command_of(name: str) -> str:
    """Return the command that a ratio comes from."""
    return shlex.join(["python", *PROGRAMS[name.split()[0]], "FILE"])


def least_of(ratio: dict[str, float]) -> float:
    """Return below what a ratio is too low."""
    return ratio["value"] - max(2 * ratio["spread"], LEAST * ratio["value"])


def slower(committed: dict[str, dict[str, float]], now: dict[str, dict[str, float]]) -> Iterator[str]:
    """Yield a line for each ratio that is too low, or is measured no more."""
    for name, then in committed.items():
        value, least = then["value"], least_of(then)
        if name not in now:
            yield f"{name}: committed {value:.3g}, but not measured any more: {command_of(name)}"
        elif now[name]["value"] < least:
            found = now[name]["value"]
            yield f"{name}: {found:.3g}, committed {value:.3g}, below {least:.3g}: {command_of(name)}"


def main() -> int:
    """Compare or write; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the ratios of this machine, and compare nothing")
    parser.add_argument("--file", type=Path, default=COMMITTED, help="the committed ratios")
    arguments = parser.parse_args()
    here = features()
    if arguments.write:
        ratios = measured()
        write_json(arguments.file, {"features": here, "ratios": ratios})
        for name, ratio in ratios.items():
            print(f"{name}: {ratio['value']:.3g}, too low below {least_of(ratio):.3g}")
        return 0
    if not arguments.file.exists():
        raise SystemExit(f"there is no {arguments.file}: just bench-check --write makes it")
    committed = json.loads(arguments.file.read_text(encoding="utf-8"))
    if committed["features"] != here:
        print(f"nothing compared: the committed ratios are of {committed['features']}, this machine has {here}")
        return 0
    lines = list(slower(committed["ratios"], measured()))
    print("\n".join(lines) if lines else f"none of {len(committed['ratios'])} ratios is lower than it was")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
