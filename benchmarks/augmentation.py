"""What each kind of augmentation makes of pictures, and what it costs: milliseconds of one CPU core for a batch.

    OMP_NUM_THREADS=1 python benchmarks/augmentation.py [--rounds 40] [--figure augmentation.png]

The batch is 500 RGB images of 32 x 32 pixels. The kinds take turns, and only the process's own time counts. The
pictures are a digit of the bundled MNIST, the two photographs that scikit-learn has, and the spectrogram of a made-up
sound: two gliding tones with harmonics.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from scipy.signal import spectrogram
from sklearn.datasets import load_sample_image

from infoae import data
from infoae.augment import augmented
from infoae.config import Augment, Data
from infoae.config.augment import KINDS, Kind
from infoae.files import atomic_file

TWINS = 8
SIZE = 32  # pixels, as the numbers of objects are meant for
RATE = 8000  # samples a second


def costs(rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of each round of each kind."""
    x, random = torch.rand(500, 3, SIZE, SIZE), torch.Generator().manual_seed(0)
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind in KINDS:
            start = time.process_time()
            augmented(x, Augment(kind=kind), random)
            found[kind].append((time.process_time() - start) * 1000)
    return found


def pictures() -> dict[Kind, NDArray[np.uint8]]:
    """Return a picture (C, H, W) for each kind, by its name: a photograph's flower, and the tiles of another's roof."""
    flower, tiles = load_sample_image("flower.jpg")[20:420, 130:530], load_sample_image("china.jpg")[76:108, 200:232]
    digit, sound = data.load(Data(limit=3), "train").images[2], _sound()
    photographs = [
        np.asarray(Image.fromarray(each).resize((SIZE, SIZE))).transpose(2, 0, 1) for each in (flower, tiles)
    ]
    return dict(zip(KINDS, (digit, *photographs, sound, digit), strict=True))


def _sound() -> NDArray[np.uint8]:
    seconds = np.arange(RATE) / RATE
    swell = np.sin(np.pi * seconds) ** 2
    tones = sum(
        swell * np.sin(2 * np.pi * harmonic * (first * seconds + glide * seconds**2)) / harmonic
        for first, glide in ((300, 150), (900, -200))
        for harmonic in (1, 2, 3)
    )
    power = spectrogram(tones, RATE, nperseg=126, noverlap=0)[2][::-1]
    decibels = np.clip(10 * np.log10(power + 1e-12) + 80, 0, 60) / 60 * 255
    return np.asarray(decibels.round(), np.uint8)[None]


def drawn(images: dict[Kind, NDArray[np.uint8]]) -> Figure:
    """Return the picture of each kind and twins of it, a row for each kind."""
    figure = Figure(figsize=(TWINS + 1.6, len(images) + 0.1), layout="constrained")
    axes = figure.subplots(len(images), TWINS + 1)
    random = torch.Generator().manual_seed(0)
    for row, (kind, image) in zip(axes, images.items(), strict=True):
        x = torch.tensor(image).float()[None] / 255
        twins = augmented(x.repeat(TWINS, 1, 1, 1), Augment(kind=kind), random).clamp(0, 1)
        for axis, each in zip(row, torch.cat([x, twins]), strict=True):
            axis.imshow(each.permute(1, 2, 0), cmap="gray", vmin=0, vmax=1, aspect="auto")
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel(kind)
    axes[0, 0].set_title("image", fontsize=10)
    axes[0, 1].set_title("twins", fontsize=10)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="0 measures nothing")
    parser.add_argument("--figure", type=Path, help="PNG of the twins")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.rounds:
        for kind, found in costs(arguments.rounds).items():
            print(f"{kind:<9} {statistics.median(found):6.1f} ms  (min {min(found):.1f}, max {max(found):.1f})")
    if arguments.figure:
        with atomic_file(arguments.figure) as path:
            drawn(pictures()).savefig(path, format="png", dpi=100)


if __name__ == "__main__":
    main()
