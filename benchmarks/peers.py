"""infoae's training beside what others would run: equal work, turns alternating, in one run on one machine.

    python benchmarks/peers.py [--steps 30] [--rounds 5] [--pythae PYTHON] [--json peers.json]

Recipe mnist beside the plain loop of benchmarks/train.py, in fp32 and in bf16 autocast, all of each batch generated and
judged. Recipe infogan beside a loop as PyTorch tutorials have it, of the same networks. Recipe aae beside pythae's
adversarial autoencoder and its own trainer, an epoch in each round: PYTHON is of an environment with `pip install
pythae torch`; without it this peer is left out. infoae trains as it does for a user, in its own precision and with as
many processes as there are CPUs. Then what else finds categories: k-means on 50 principal components of MNIST's
training images, beside the committed results of recipe mnist, whose time may be of another machine.

The threads of plain loops wait for each other at every operation: with other programs beside, ratios are too high.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans, MiniBatchKMeans
from torch import Tensor, nn

from benchmarks import simple_clusterings, train
from infoae import data, losses
from infoae.config import Config, recipes
from infoae.data import ImageSet
from infoae.device import resolve_device
from infoae.files import write_json
from infoae.methods.method import parameters
from infoae.methods.registry import method_of
from infoae.planning import with_image_shape

COMMITTED = Path(__file__).resolve().parents[1] / "docs/results/mnist/summary.json"
CHILD = Path(__file__).with_name("pythae_aae.py")
SETTINGS = {"mnist": [*train.ALIKE, "train.adversarial_fraction=1"], "infogan": [], "aae": []}
"""Of each recipe, for equal work."""
CLUSTERINGS: dict[str, Callable[[int, int], Any]] = {
    "k-means, the best of ten": lambda count, seed: KMeans(count, n_init=10, random_state=seed),
    "mini-batch k-means": lambda count, seed: MiniBatchKMeans(count, random_state=seed),
}


def infogan_steps(run: Config, images: Tensor, device: torch.device) -> Iterator[int]:
    """Train InfoGAN as PyTorch tutorials do; yield the images of each step.

    One Adam for the discriminator and the features that it shares, which sees real and generated images apart; then one
    for generator and recognition network, which sees the generated images anew.
    """
    torch.manual_seed(0)
    model = method_of(run).build(run).to(device)
    train.with_torchs_own_layers(model)
    features, hidden = model.encoder.features, model.encoder.hidden
    rate, critic_rate = run.learning_rates()
    betas = (run.optim.beta1, run.optim.beta2)
    players = parameters(model.generator, hidden, model.classifier, model.codes)
    optimizer = torch.optim.Adam(players, rate, betas)
    critic_optimizer = torch.optim.Adam(parameters(features, model.discriminator), critic_rate, betas)
    bce, cross_entropy, weights = nn.BCELoss(), nn.CrossEntropyLoss(), run.objective.weights

    def judged(seen: Tensor, real: float) -> Tensor:
        answers = torch.sigmoid(model.discriminator(seen))
        loss: Tensor = bce(answers, torch.full_like(answers, real))
        return loss

    for x in train.endless(train.loader(run, images)):
        x = x.to(device)
        u = torch.rand(len(x), model.noise_dim, device=device) * 2 - 1
        c = torch.randint(model.num_categories, (len(x),), device=device)
        x_gen = model.generated(u, F.one_hot(c, model.num_categories).float())

        critic_optimizer.zero_grad()
        judged(features(x), 1).backward()
        judged(features(x_gen.detach()), 0).backward()
        critic_optimizer.step()

        optimizer.zero_grad()
        seen = features(x_gen)
        z = hidden(seen)
        mean, log_deviation = model.codes(z).chunk(2, 1)
        loss = (
            judged(seen, 1)
            + weights.category_information * cross_entropy(model.classifier(z), c)
            + weights.continuous_information * losses.gaussian(mean, log_deviation, u[:, -model.num_codes :]).mean()
        )
        loss.backward()
        optimizer.step()
        yield len(x)


def pythae_epoch(python: Path, run: Config, images: Tensor, steps: int) -> dict[str, Any]:
    """Train pythae's adversarial autoencoder for an epoch of so many steps, in a process of its own environment."""
    model, batch_size = run.model, run.train.batch_size
    assert isinstance(model.num_categories, int)
    sizes = (batch_size, model.hidden_dim, model.num_categories + model.style_dim)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "images.npy"
        np.save(file, images[: steps * batch_size].numpy())
        command = [str(each) for each in (python, CHILD, file, *sizes)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{python} cannot train with pythae:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def peers_of(recipe: str, run: Config, images: Tensor, device: torch.device) -> dict[str, Iterator[int]]:
    """Return the loops that a recipe is compared with, of its own networks."""
    if recipe == "infogan":
        return {"loop of PyTorch tutorials, fp32": infogan_steps(run, images, device)}
    if recipe == "aae":
        return {}
    precisions = {"fp32": torch.float32, "bf16 autocast": torch.bfloat16}
    return {
        f"plain eager loop, {name}": train.plain_steps(run, images, device, precision)
        for name, precision in precisions.items()
    }


def trained(recipe: str, steps: int, rounds: int, device: torch.device, pythae: Path | None) -> Iterator[Any]:
    """Yield what came out beside each peer of a recipe."""
    run = recipes.load(recipe, SETTINGS[recipe])
    source = data.load(run.data, "train")
    run, images = with_image_shape(run, source), torch.tensor(source.images)
    timed: dict[str, Callable[[int], float]] = {
        name: partial(train.images_per_second, train.turns_of(loop), device)
        for name, loop in peers_of(recipe, run, images, device).items()
    }
    own = sum(parameter.numel() for parameter in method_of(run).build(run).parameters())
    sizes = dict.fromkeys(timed, own)
    if recipe == "aae" and pythae is not None:
        name, epoch = "pythae's own trainer, fp32", partial(pythae_epoch, pythae, run, images)
        timed[name] = lambda number: float(epoch(number)["images_per_second"])
        sizes[name] = epoch(train.WARM_UP)["parameters"]
        steps = len(images) // run.train.batch_size
    if not timed:
        return
    timed["infoae"] = partial(train.images_per_second, train.infoae_turns(run, images, device), device)
    print(f"recipe {recipe}, batches of {run.train.batch_size}, {train.described(run, device)}", flush=True)
    rates = train.in_turns(timed, steps, rounds)
    for peer, size in sizes.items():
        yield {
            "recipe": recipe,
            "peer": peer,
            "batch_size": run.train.batch_size,
            "steps": steps,
            "parameters": {"infoae": own, "peer": size},
            "images_per_second": {"infoae": rates["infoae"], "peer": rates[peer]},
            "ratios": train.ratios(rates, peer),
        }


def shown(row: dict[str, Any]) -> str:
    """Return a line of one peer."""
    ratios, rates = row["ratios"], {name: statistics.median(each) for name, each in row["images_per_second"].items()}
    counts = f"{row['parameters']['infoae']:,} parameters against {row['parameters']['peer']:,}"
    return (
        f"  {row['peer']:<32} {rates['peer']:7.0f} images/s, infoae {rates['infoae']:7.0f}; ratio "
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); {counts}"
    )


def clustered(images: ImageSet, test: ImageSet, seeds: list[int]) -> Iterator[Any]:
    """Yield accuracy and seconds of what a user would run for categories alone, means over the seeds."""
    assert test.labels is not None
    components = simple_clusterings.components(simple_clusterings.pixels)
    start = time.perf_counter()
    fit, judged = components(images.images, test.images)
    seconds = time.perf_counter() - start
    count = int(test.labels.max()) + 1
    for found in simple_clusterings.measured(fit, judged, test.labels, count, seeds, CLUSTERINGS):
        yield found | {"seconds": seconds + found["seconds"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30, help="steps of each loop in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of k-means")
    parser.add_argument("--pythae", type=Path, metavar="PYTHON", help="interpreter of an environment with pythae")
    parser.add_argument("--json", type=Path, help="file of all figures")
    arguments = parser.parse_args()
    device, found = resolve_device("auto"), []
    for recipe in SETTINGS:
        for row in trained(recipe, arguments.steps, arguments.rounds, device, arguments.pythae):
            found.append(row)
            print(shown(row), flush=True)

    of = recipes.load("mnist", SETTINGS["mnist"]).data
    images, test = data.load(of, "train"), data.load(of, "test")
    print(f"categories, fitted on {len(images)} images and judged on {len(test)}", flush=True)
    clusterings = []
    for row in clustered(images, test, arguments.seeds):
        clusterings.append(row)
        print(f"  {row['method']:<36} {row['accuracy']:7.2%} {row['seconds']:8.1f} s", flush=True)
    committed = json.loads(COMMITTED.read_text(encoding="utf-8"))["measures"]
    accuracy, seconds = (committed[name]["mean"] for name in ("accuracy", "seconds_training"))
    print(f"  {'infoae, recipe mnist, as committed':<36} {accuracy:7.2%} {seconds:8.1f} s")
    if arguments.json:
        write_json(arguments.json, {"training": found, "images_fitted": len(images), "clusterings": clusterings})


if __name__ == "__main__":
    main()
