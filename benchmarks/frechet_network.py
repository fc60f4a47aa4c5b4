"""Train the feature network of the Fréchet distance on MNIST's digits with labels: evaluation/frechet.safetensors.

    python benchmarks/frechet_network.py [--epochs 5] [--out FILE]

Done once: distances in other features cannot be compared with those of before. Prints the test accuracy, and for
comparison the distance between real images: the first 10,000 training images and the test images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from infoae import data
from infoae.config import Data
from infoae.evaluation import frechet
from infoae.files import atomic_file

BATCH = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(frechet.__file__).with_name(frechet.WEIGHTS))
    arguments = parser.parse_args()
    torch.manual_seed(0)
    train, test = data.load(Data(), "train"), data.load(Data(), "test")
    assert train.labels is not None
    assert test.labels is not None
    x, labels = torch.tensor(train.images), torch.tensor(train.labels)
    network = frechet.FeatureNetwork()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for epoch in range(arguments.epochs):
        for batch in torch.randperm(len(x)).split(BATCH):
            loss = F.cross_entropy(network(x[batch].float() / 255), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1} of {arguments.epochs}: loss of the last batch {loss.item():.4f}")
    network.eval()
    with atomic_file(arguments.out) as file:
        save_file(network.state_dict(), file)
    real = torch.tensor(test.images).float() / 255
    with torch.inference_mode():
        answers = torch.cat([network(part).argmax(1) for part in real.split(1000)])
    print(f"test accuracy {(answers == torch.tensor(test.labels)).double().mean():.4f}")
    features = frechet.features(x[: len(real)].float() / 255), frechet.features(real)
    print(f"distance of 10,000 training from the test images, in the features used: {frechet.distance(*features):.3f}")


if __name__ == "__main__":
    main()
