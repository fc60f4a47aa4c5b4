"""Images per second of the full training step: infoae's against a plain eager loop, in one run on one machine.

    python benchmarks/train.py [--steps 30] [--rounds 5] [--json train.json]

The plain loop is the same six networks, losses and sizes as a user would write them: fp32, torch's own convolutions, a
torchvision DataLoader, each side's own pass through the critics, nothing frozen. infoae trains as it does for a user:
with as many processes as there are CPUs, which begin anew in each round. Both take turns, so that a machine whose speed
drifts slows both; the median of the rounds' ratios is what counts.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import ToTensor

from infoae import data, losses
from infoae.augment import augmented
from infoae.config import Config, recipes
from infoae.cpus import available_cpus
from infoae.data.sampler import batches
from infoae.device import resolve_device, resolve_precision
from infoae.distributed import collectives, local_group
from infoae.files import write_json
from infoae.memory import num_parameters
from infoae.methods.registry import method_of
from infoae.methods.schedules import schedule_of
from infoae.model import InfoAE
from infoae.planning import with_image_shape
from infoae.step import Step

Turn: TypeAlias = Callable[[int], int]
"""Trains so many steps, and returns their images."""

# What the plain loop does not do is left out of both.
ALIKE = [
    "model.num_over_categories=null",
    "model.num_heads=1",
    "objective.weights.pseudo_label=0",
    "objective.weights.latent_matching=0",
    "objective.pairs=twins",
    "pseudo_labels.anchor_hops=0",
    "stages.pseudo_label_epochs=0",
]
WARM_UP = 3  # steps


class PillowImages(torch.utils.data.Dataset[Tensor]):
    """The bundled MNIST as torchvision's MNIST gives it: a PIL image at a time, transformed."""

    def __init__(self, images: Tensor) -> None:
        self.images = images
        self.transform = ToTensor()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        image: Tensor = self.transform(Image.fromarray(self.images[index, 0].numpy()))
        return image


def loader(run: Config, images: Tensor) -> torch.utils.data.DataLoader[Tensor]:
    """Return what a user would load batches with."""
    return torch.utils.data.DataLoader(PillowImages(images), run.train.batch_size, shuffle=True)


def with_torchs_own_layers(model: nn.Module) -> None:
    """Let layers that infoae computes in a way of its own be computed by PyTorch."""
    kinds: tuple[Any, ...] = (nn.Conv2d, nn.ConvTranspose2d, nn.Flatten)
    for layer in model.modules():
        for kind in kinds:
            if isinstance(layer, kind):
                layer.forward = partial(kind.forward, layer)


def plain_steps(
    run: Config, images: Tensor, device: torch.device, precision: torch.dtype = torch.float32
) -> Iterator[int]:
    """Train as a user would write it, in autocast below fp32; yield the images of each step."""
    torch.manual_seed(0)
    model = InfoAE(run.model).to(device)
    with_torchs_own_layers(model)
    weights, augment = run.objective.weights, torch.Generator().manual_seed(0)
    betas = (run.optim.beta1, run.optim.beta2)
    model_parameters, critic_parameters = (side.parameters for side in method_of(run).sides(model, run))
    model_optimizer = torch.optim.Adam(model_parameters, run.optim.learning_rate, betas)
    critic_optimizer = torch.optim.Adam(critic_parameters, run.optim.critic_learning_rate, betas)
    autocast = partial(torch.autocast, device.type, precision, enabled=precision != torch.float32)
    for x in endless(loader(run, images)):
        x = x.to(device)
        with autocast():
            u = torch.rand(len(x), run.model.noise_dim, device=device) * 2 - 1
            c = torch.randint(model.num_over_categories, (len(x),), device=device)
            z_gen = model.generator(u, F.one_hot(c, model.num_over_categories).float())
            x_gen = torch.sigmoid(model.decoder(z_gen))
            z, z_cycle, z_twin = model.encoder(torch.cat([x, x_gen, augmented(x, run.augment, augment)])).split(len(x))
            x_recon_logits = model.decoder(z)
            x_recon = torch.sigmoid(x_recon_logits)
            fake = (x_recon, z) if run.objective.self_critic_fakes == "reconstructed" else (x, z)

            critic_loss = (
                losses.real(model.discriminator(x)).mean()
                + losses.generated(model.discriminator(x_gen.detach())).mean() / 2
                + losses.generated(model.discriminator(x_recon.detach())).mean() / 2
                + losses.real(model.self_critic(x_gen.detach(), z_gen.detach())).mean()
                + losses.generated(model.self_critic(fake[0].detach(), fake[1].detach())).mean()
            )
            model_loss = (
                weights.decoder_generated * losses.real(model.discriminator(x_gen)).mean()
                + weights.decoder_reconstructed * losses.real(model.discriminator(x_recon)).mean()
                + weights.reconstruction * losses.reconstruction(x_recon_logits, x, "squared").mean()
                + weights.classification_generated * losses.classification(model.classifier(z_gen), c).mean()
                + weights.classification_encoded * losses.classification(model.classifier(z_cycle), c).mean()
                + weights.encoder_adversarial * losses.real(model.self_critic(*fake)).mean()
                + weights.mutual_information * losses.mutual_information(model.classifier(z), model.classifier(z_twin))
            )
        model_optimizer.zero_grad()
        model_loss.backward()
        model_optimizer.step()
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()
        yield len(x)


def endless(batches_of: torch.utils.data.DataLoader[Tensor]) -> Iterator[Tensor]:
    while True:
        yield from batches_of


def turns_of(steps: Iterator[int]) -> Turn:
    """Return what takes so many of `steps`, which yield their images."""
    return lambda number: sum(islice(steps, number))


def infoae_turns(run: Config, images: Tensor, device: torch.device) -> Turn:
    """Return what trains as infoae does, each time with processes that last as long."""
    torch.manual_seed(0)
    step = Step(method_of(run).build(run), run, device, resolve_precision("auto", device))
    stage = schedule_of(run).stages[-1]
    of_all_epochs = (batches(run.seed, epoch, len(images), run.train.batch_size) for epoch in count())
    order = enumerate(indices for epoch in of_all_epochs for indices in epoch)

    def take(number: int) -> int:
        taken = list(islice(order, number))

        def train() -> None:
            for index, indices in taken:
                share = collectives.share(len(indices))
                step(images[torch.from_numpy(indices[share.slice])], index, stage, share.total)

        local_group.run(processes(run, device), train, step.num_bytes)
        return sum(len(indices) for _, indices in taken)

    return take


def processes(run: Config, device: torch.device) -> int:
    """Return how many processes share a batch where no other program runs."""
    if not local_group.possible(device):
        return 1
    given = run.train.processes
    most = min(available_cpus(), torch.get_num_threads()) if given == "auto" else given
    num_bytes = 4 * num_parameters(run)
    return local_group.size_for(run.train.batch_size, run.train.micro_batch_size, most, num_bytes)


def images_per_second(turn: Turn, device: torch.device, steps: int) -> float:
    started = time.perf_counter()
    images = turn(steps)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return images / (time.perf_counter() - started)


def in_turns(rates: Mapping[str, Callable[[int], float]], steps: int, rounds: int) -> dict[str, list[float]]:
    """Return the images per second of each round's `steps`, of each that is named."""
    for rate in rates.values():
        rate(WARM_UP)
    found: dict[str, list[float]] = {name: [] for name in rates}
    for _ in range(rounds):
        for name, rate in rates.items():
            found[name].append(rate(steps))
    return found


def ratios(rates: dict[str, list[float]], peer: str) -> list[float]:
    """Return infoae's images per second against those of a peer, of each round."""
    return [ours / theirs for ours, theirs in zip(rates["infoae"], rates[peer], strict=True)]


def described(run: Config, device: torch.device) -> str:
    """Return what infoae trains on, and how."""
    precision = str(resolve_precision("auto", device)).removeprefix("torch.")
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    return f"{where}, infoae in {precision}, processes: {processes(run, device)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="mnist")
    parser.add_argument("--steps", type=int, default=30, help="steps of each loop in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="JSON file of all figures")
    arguments = parser.parse_args()

    run = recipes.load(arguments.config, ALIKE)
    train = data.load(run.data, "train")
    run, device = with_image_shape(run, train), resolve_device("auto")
    images = torch.tensor(train.images)
    turns = {
        "plain eager fp32": turns_of(plain_steps(run, images, device)),
        "infoae": infoae_turns(run, images, device),
    }
    timed = {name: partial(images_per_second, turn, device) for name, turn in turns.items()}
    rates = in_turns(timed, arguments.steps, arguments.rounds)
    print(f"recipe {arguments.config}, {described(run, device)}")
    for name, values in rates.items():
        print(f"{name:<18} {statistics.median(values):7.0f} images/s  (min {min(values):.0f}, max {max(values):.0f})")
    found = ratios(rates, "plain eager fp32")
    print(f"ratio              {statistics.median(found):7.2f}  (min {min(found):.2f}, max {max(found):.2f})")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory        {peak:7.2f} GiB, both loops, of the first process")
    if arguments.json:
        result = {"config": arguments.config, "where": described(run, device), "steps": arguments.steps}
        write_json(arguments.json, result | {"images_per_second": rates, "ratios": found, "peak_gib": peak})


if __name__ == "__main__":
    main()
