"""What becomes of data in which some categories are rare, with each prior: MNIST, digits thinned to a fifth or less.

    python benchmarks/unbalanced.py [--config mnist] [--set KEY=VALUE] [--rarest 0.2] [--seed 0] [--priors uniform]
        [--folder DIR] [--out unbalanced.json]

Of the training images of zeros all are kept, of nines the share --rarest, of the others a share between, in equal
steps, without their labels, as shards. The recipe is trained on them with each prior of the generator's categories:
uniform, estimated from the answers, given. Measured on the 10,000 test images, all digits alike, and against the test
images thinned in the same way for what is generated.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoae import data, launch, planning
from infoae.config import Data
from infoae.data import ImageSet
from infoae.evaluation.evaluate import evaluate
from infoae.files import write_json
from infoae.launch import Executor
from infoae.model import InfoAE
from infoae.runs.run import Run


def thinned(images: ImageSet, rarest: float) -> ImageSet:
    """Keep the first part of each digit's images, from all of the first to `rarest` of the last, in random order."""
    assert images.labels is not None
    parts = np.linspace(1.0, rarest, 10)
    place = np.zeros(len(images), np.int64)  # of an image among those of its digit
    for digit in range(len(parts)):
        mine = images.labels == digit
        place[mine] = np.arange(mine.sum())
    kept = place < parts[images.labels] * np.bincount(images.labels)[images.labels]
    order = np.random.default_rng(0).permutation(np.flatnonzero(kept))  # else rare digits are rarer to the end
    return ImageSet(np.asarray(images.images)[order], images.labels[order])


def write_shards(train: NDArray[np.uint8], test: ImageSet, folder: Path) -> None:
    """Write the images as `infoae train --data shards` reads them; only the test images have labels."""
    assert test.labels is not None
    for split, images in (("train", train), ("test", test.images)):
        (folder / split).mkdir(parents=True, exist_ok=True)
        for number, part in enumerate(np.array_split(images, 8)):
            np.save(folder / split / f"{number}.npy", part)
    np.save(folder / "test_labels.npy", test.labels)


def measured(run: Run, test: ImageSet, rarest: float) -> dict[str, Any]:
    """Return what the best checkpoint is worth, on all test images and on thinned ones."""
    model = InfoAE.of_run(run)
    whole, rare = evaluate(model, test), evaluate(model, thinned(test, rarest))
    assert whole.labelled is not None
    assert rare.labelled is not None
    return {
        "accuracy": whole.labelled.accuracy,
        "accuracy_thinned": rare.labelled.accuracy,
        "nmi_thinned": rare.labelled.nmi,
        "recovered": rare.generated.recovered,
        "diversity_pixels": rare.generated.diversity_pixels,
        "frechet_distance_thinned": rare.frechet_distance,
        "prior": [round(share, 4) for share in model.prior.tolist()],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="mnist")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--rarest", type=float, default=0.2, help="share of the nines that is kept")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("unbalanced"), help="where shards and runs go")
    parser.add_argument("--priors", nargs="+", default=["uniform", "estimated", "given"])
    parser.add_argument("--out", type=Path, help="JSON file of all figures")
    arguments = parser.parse_args()
    train, test = thinned(data.load(Data(), "train"), arguments.rarest), data.load(Data(), "test")
    write_shards(np.asarray(train.images), test, arguments.folder)
    assert train.labels is not None
    shares = np.sort(np.bincount(train.labels))[::-1] / len(train)
    found: dict[str, Any] = {"images": len(train), "shares": [round(float(share), 4) for share in shares]}
    for prior in arguments.priors:
        value = [float(share) for share in found["shares"]] if prior == "given" else prior
        settings = [*arguments.settings, f"seed={arguments.seed}", f"model.prior={value}", "data.name=shards"]
        settings.append(f"data.root={arguments.folder}")
        plan = planning.planned(arguments.config, settings, arguments.folder / "runs", f"{prior}-{arguments.seed}")
        result = launch.run(plan, Executor())
        if not result.finished:
            return
        found[prior] = measured(Run.open(result.folder), test, arguments.rarest) | {"score": result.score}
        print(prior, found[prior], flush=True)
        if arguments.out:
            write_json(arguments.out, found)


if __name__ == "__main__":
    main()
