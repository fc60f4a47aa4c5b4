"""Images per second of the full training step: infoae's against a plain eager loop, in one run on one machine.

    python benchmarks/train.py [--steps 30] [--rounds 5] [--json train.json]

The plain loop is the same six networks, losses and sizes as a user would write them: fp32, torch's own convolutions, a
torchvision DataLoader, each side's own pass through the critics, nothing frozen. Both take turns, so that a machine
whose speed drifts slows both; the ratio of the medians is what counts.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import ToTensor

from infoae import data, losses
from infoae.augment import augmented
from infoae.config import Config, recipes
from infoae.data.sampler import batches
from infoae.device import resolve_device, resolve_precision
from infoae.files import write_json
from infoae.methods.registry import method_of
from infoae.methods.schedules import schedule_of
from infoae.model import InfoAE
from infoae.planning import with_image_shape
from infoae.polyphase import PhaseConv2d, PhaseConvTranspose2d
from infoae.step import Step

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


def plain_steps(run: Config, images: Tensor, device: torch.device) -> Iterator[int]:
    """Train as a user would write it; yield the images of each step."""
    torch.manual_seed(0)
    model = InfoAE(run.model).to(device)
    for layer in model.modules():
        if isinstance(layer, PhaseConv2d):
            layer.forward = partial(nn.Conv2d.forward, layer)  # type: ignore[method-assign]
        if isinstance(layer, PhaseConvTranspose2d):
            layer.forward = partial(nn.ConvTranspose2d.forward, layer)  # type: ignore[method-assign]
    weights, augment = run.objective.weights, torch.Generator().manual_seed(0)
    betas = (run.optim.beta1, run.optim.beta2)
    model_parameters, critic_parameters = (side.parameters for side in method_of(run).sides(model, run))
    model_optimizer = torch.optim.Adam(model_parameters, run.optim.learning_rate, betas)
    critic_optimizer = torch.optim.Adam(critic_parameters, run.optim.critic_learning_rate, betas)
    loader: torch.utils.data.DataLoader[Tensor] = torch.utils.data.DataLoader(
        PillowImages(images), run.train.batch_size, shuffle=True
    )
    while True:
        for x in loader:
            x = x.to(device)
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


def infoae_steps(run: Config, images: Tensor, device: torch.device) -> Iterator[int]:
    """Train as infoae does; yield the images of each step."""
    torch.manual_seed(0)
    step = Step(InfoAE(run.model), run, device, resolve_precision("auto", device))
    stage = schedule_of(run).stages[-1]
    index = epoch = 0
    while True:
        for indices in batches(run.seed, epoch, len(images), run.train.batch_size):
            step(images[torch.from_numpy(indices)], index, stage)
            index += 1
            yield len(indices)
        epoch += 1


def images_per_second(steps: Iterator[int], count: int, device: torch.device) -> float:
    started = time.perf_counter()
    images = sum(next(steps) for _ in range(count))
    if device.type == "cuda":
        torch.cuda.synchronize()
    return images / (time.perf_counter() - started)


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
    loops = {"plain eager fp32": plain_steps(run, images, device), "infoae": infoae_steps(run, images, device)}
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for steps in loops.values():
        images_per_second(steps, 3, device)  # warm up
    for _ in range(arguments.rounds):
        for name, steps in loops.items():
            rates[name].append(images_per_second(steps, arguments.steps, device))
    precision = str(resolve_precision("auto", device)).removeprefix("torch.")
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    print(f"{where}, recipe {arguments.config}, infoae in {precision}")
    for name, values in rates.items():
        print(f"{name:<18} {statistics.median(values):7.0f} images/s  (min {min(values):.0f}, max {max(values):.0f})")
    ratios = [ours / plain for ours, plain in zip(rates["infoae"], rates["plain eager fp32"], strict=True)]
    print(f"ratio              {statistics.median(ratios):7.2f}  (min {min(ratios):.2f}, max {max(ratios):.2f})")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory        {peak:7.2f} GiB, both loops in one process")
    if arguments.json:
        result = {"config": arguments.config, "where": where, "precision": precision, "steps": arguments.steps}
        write_json(arguments.json, result | {"images_per_second": rates, "ratios": ratios, "peak_gib": peak})


if __name__ == "__main__":
    main()
