"""Four nodes against one process: the same accuracy, through a lost node and a stopped command.

    python benchmarks/four_nodes.py REPRODUCED [--config mnist] [--set KEY=VALUE] [--out four_nodes.json]

REPRODUCED is a folder in which `infoae reproduce` put the results of this recipe, each seed trained in one process. Its
first seed is trained by `infoae train --nodes 4` on a simulated cluster: four nodes of one CPU (or --cpus) each on this
machine, all of Ray's processes real. On the way a node is removed and another added, and later the command is stopped
by Ctrl-C and resumed. What comes out is exported, verified, and labels the test images.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from infoae import data
from infoae.config import recipes
from infoae.files import write_json
from infoae.runs.run import Run

COMMAND = [sys.executable, "-c", "from infoae.cli.main import main; main()"]
MEASURES = ("accuracy", "nmi", "seconds", "restarts", "step")


def infoae(*arguments: str, meanwhile: Callable[[subprocess.Popen[str]], None] = lambda _: None) -> str:
    """Run a command of infoae, and something beside it; return what it printed. Its messages pass through."""
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, text=True) as process:
        meanwhile(process)
        output, _ = process.communicate()
    if process.returncode not in (0, 130):
        raise SystemExit(f"infoae {' '.join(arguments)} failed with {process.returncode}")
    return output


def train(*arguments: str, meanwhile: Callable[[subprocess.Popen[str]], None] = lambda _: None) -> dict[str, Any]:
    """Run `infoae train --json`; return its result, the score and recovered among it."""
    result: dict[str, Any] = json.loads(infoae("train", "--json", *arguments, meanwhile=meanwhile))
    kept = {name: result[name] for name in MEASURES if name in result}
    if result["finished"]:
        kept |= {"score": result["score"], "recovered": result["generated"]["recovered"]}
    return kept | {"finished": result["finished"]}


def steps(run: Run) -> list[int]:
    """Return the steps that metrics.jsonl tells of."""
    return [line["step"] for line in run.metrics() if "images_per_second" in line]


def on_four_nodes(runs: Path, options: list[str], total: int, cpus: int) -> dict[str, Any]:
    """Train with a node lost after a quarter of `total` steps, and stopped and resumed after three quarters."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    run = Run(runs / "four")

    def wait_for(step: int, process: subprocess.Popen[str]) -> None:
        while (steps(run) or [0])[-1] < step and process.poll() is None:
            time.sleep(0.2)

    def trouble(process: subprocess.Popen[str]) -> None:
        wait_for(total // 4, process)
        print(f"removing a node after step {steps(run)[-1]}, and adding another", flush=True)
        cluster.remove_node(nodes[0], allow_graceful=False)
        cluster.add_node(num_cpus=cpus)
        wait_for(total * 3 // 4, process)
        print(f"Ctrl-C after step {steps(run)[-1]}", flush=True)
        process.send_signal(signal.SIGINT)

    try:
        nodes = [cluster.add_node(num_cpus=cpus) for _ in range(4)]
        workers = ["--nodes", "4", "--address", cluster.address, "--runs", str(runs)]
        stopped = train("--name", "four", *workers, *options, meanwhile=trouble)
        resumed = train("--resume", "four", *workers)
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]
    logged = steps(run)
    if stopped["finished"] or logged != sorted(set(logged)):
        raise SystemExit("the command was not stopped, or steps were written twice")
    return resumed | {"stopped_at": stopped["step"], "restarts_before": stopped.get("restarts", 0)}


def exported(runs: Path) -> float:
    """Export the run of four nodes, label the test images from a file, and return the accuracy of the labels."""
    bundle, images, labels = (str(runs / name) for name in ("bundle", "images.npy", "labels.csv"))
    infoae("export", str(runs / "four"), "--onnx", "--out", bundle)
    test = data.load(recipes.load(str(runs / "four" / "config.yaml")).data, "test")
    assert test.labels is not None
    np.save(images, test.images)
    infoae("classify", images, "--model", bundle, "--out", labels)
    with Path(labels).open(encoding="utf-8") as file:
        found = np.array([int(row["label"]) for row in csv.DictReader(file)])
    evaluation = json.loads((runs / "four" / "evaluation.json").read_text())
    matching = np.array([evaluation["matching"][str(category)] for category in range(10)])
    return float((matching[found] == test.labels).mean())


def one_process(reproduced: Path) -> tuple[int, dict[str, Any]]:
    """Return the first seed that was reproduced, what came out of it, and the accuracy of all."""
    summary = json.loads((reproduced / "summary.json").read_text())
    seed = summary["seeds"][0]
    result = json.loads((reproduced / f"seed-{seed}.json").read_text())
    mine = {"accuracy": result["accuracy"], "nmi": result["nmi"], "recovered": result["generated"]["recovered"]}
    all_seeds = {"seeds": len(summary["seeds"]), **summary["measures"]["accuracy"]}
    return seed, {"command": summary["command"], "seed": seed, **mine, "accuracy_of_all_seeds": all_seeds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reproduced", type=Path, metavar="REPRODUCED")
    parser.add_argument("--config", default="mnist")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="section.key=value")
    parser.add_argument("--cpus", type=int, default=1, help="of a node, and threads of its worker")
    parser.add_argument("--out", type=Path, help="JSON file of all figures")
    arguments = parser.parse_args()
    if not (arguments.reproduced / "summary.json").is_file():
        parser.error(f"{arguments.reproduced} has no summary.json: give a folder that infoae reproduce wrote")
    seed, alone = one_process(arguments.reproduced)
    os.environ["PYTHONPATH"] = str(Path(recipes.__file__).parents[1])  # where workers find the package
    signal.signal(signal.SIGINT, signal.default_int_handler)
    settings = [*arguments.settings, "train.save_every=50"]
    options = ["--config", arguments.config, "--seed", str(seed)]
    options += [part for setting in settings for part in ("--set", setting)]
    total = json.loads(infoae("train", "--dry-run", "--json", *options))["steps"]
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        together = on_four_nodes(runs, options, total, arguments.cpus)
        together["accuracy_of_exported_labels"] = exported(runs)
    print(f"four nodes, seed {seed}: {together}")
    everyone = alone["accuracy_of_all_seeds"]
    print(
        f"seed {seed}: accuracy in one process {alone['accuracy']:.2%}, on four nodes {together['accuracy']:.2%}, as "
        f"exported {together['accuracy_of_exported_labels']:.2%}; {everyone['seeds']} seeds in one process "
        f"{everyone['mean']:.2%}, standard deviation {everyone['deviation']:.2%}"
    )
    if arguments.out:
        content = {
            "config": arguments.config,
            "settings": settings,
            "cpus": arguments.cpus,
            "one_process": alone,
            "four_nodes": together,
        }
        write_json(arguments.out, content)


if __name__ == "__main__":
    main()
