"""Four nodes against one process: the same accuracy, through a lost node and a stopped command.

    python benchmarks/four_nodes.py [--config mnist] [--set KEY=VALUE] [--seeds 0-2] [--out four_nodes.json]

Each seed is trained in one process. Then the first is trained by `infoae train --nodes 4` on a simulated cluster: four
nodes of one CPU each on this machine, all of Ray's processes real. On the way a node is removed and another added, and
later the command is stopped by Ctrl-C and resumed. What comes out is exported, verified, and labels the test images.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from infoae import configuration, data
from infoae.files import write_json
from infoae.reproduce import parse_seeds
from infoae.run import Run

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
    """Run `infoae train --json`; return its result, the label-free score and recovered among it."""
    result: dict[str, Any] = json.loads(infoae("train", "--json", *arguments, meanwhile=meanwhile))
    kept = {name: result[name] for name in MEASURES if name in result}
    if result["finished"]:
        kept |= {"score": result["score"], "recovered": result["generated"]["recovered"]}
    return kept | {"finished": result["finished"]}


def steps(run: Run) -> list[int]:
    """Return the steps that metrics.jsonl tells of."""
    return [line["step"] for line in run.metrics() if "images_per_second" in line]


def on_four_nodes(runs: Path, options: list[str], total: int) -> dict[str, Any]:
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
        cluster.add_node(num_cpus=1)
        wait_for(total * 3 // 4, process)
        print(f"Ctrl-C after step {steps(run)[-1]}", flush=True)
        process.send_signal(signal.SIGINT)

    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(4)]
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
    test = data.load(configuration.load(str(runs / "four" / "config.yaml")).data, "test")
    assert test.labels is not None
    np.save(images, test.images)
    infoae("classify", images, "--model", bundle, "--out", labels)
    with Path(labels).open(encoding="utf-8") as file:
        found = np.array([int(row["label"]) for row in csv.DictReader(file)])
    evaluation = json.loads((runs / "four" / "evaluation.json").read_text())
    matching = np.array([evaluation["matching"][str(category)] for category in range(10)])
    return float((matching[found] == test.labels).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="mnist")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="section.key=value")
    parser.add_argument("--seeds", default="0-2", help="of the runs in one process; the first is also the four nodes'")
    parser.add_argument("--out", type=Path, help="JSON file of all figures")
    arguments = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(configuration.__file__).parents[1])  # where workers find the package
    signal.signal(signal.SIGINT, signal.default_int_handler)
    settings = [*arguments.settings, "train.save_every=50"]
    options = ["--config", arguments.config, *(part for setting in settings for part in ("--set", setting))]
    seeds = parse_seeds(arguments.seeds)
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        alone = {
            seed: train("--seed", str(seed), "--name", f"one-{seed}", "--runs", folder, *options) for seed in seeds
        }
        for seed, result in alone.items():
            print(f"one process, seed {seed}: {result}", flush=True)
        together = on_four_nodes(runs, ["--seed", str(seeds[0]), *options], alone[seeds[0]]["step"])
        together["accuracy_of_exported_labels"] = exported(runs)
    print(f"four nodes, seed {seeds[0]}: {together}")
    accuracies = [result["accuracy"] for result in alone.values()]
    spread = f", standard deviation {statistics.stdev(accuracies):.2%}" if len(seeds) > 1 else ""
    print(
        f"accuracy in one process {statistics.mean(accuracies):.2%} over {len(seeds)} seeds{spread}; on four nodes "
        f"{together['accuracy']:.2%}, as exported {together['accuracy_of_exported_labels']:.2%}"
    )
    if arguments.out:
        content = {"config": arguments.config, "settings": settings, "one_process": alone, "four_nodes": together}
        write_json(arguments.out, content)


if __name__ == "__main__":
    main()
