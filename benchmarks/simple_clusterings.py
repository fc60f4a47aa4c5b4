"""What else there is: k-means and a Gaussian mixture, on pixels, on HOG features, and on features of your own.

    python benchmarks/simple_clusterings.py mnist [--seeds 0 1 2] [--fit 20000] [--out FILE.json]
    python benchmarks/simple_clusterings.py SHARDS [--categories 10] [--features TRAIN.npy TEST.npy]

Of a data set by name (--data-root says where it lies) or of the folder that `infoae convert --labels` wrote. Fitted on
the first training images, without labels, and judged on the test images: accuracy with clusters matched to classes
one-to-one and many-to-one, NMI, and seconds to make the features once and to fit and predict for each seed. Pixels and
HOG (Dalal and Triggs 2005; scikit-image, which the dev extra brings) are brought to 50 principal components.
Features of your own are taken as they are, a row an image.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from infoae import data
from infoae.config import Data
from infoae.evaluation.evaluate import labelled
from infoae.files import write_json

Floats = NDArray[np.float64]
Images = NDArray[np.uint8]

COMPONENTS = 50
MEASURES = ("accuracy", "many_to_one", "nmi")
METHODS: dict[str, Callable[[int, int], Any]] = {
    "k-means": lambda count, seed: KMeans(count, n_init=1, random_state=seed),
    "Gaussian mixture": lambda count, seed: GaussianMixture(count, reg_covar=1e-3, random_state=seed),
}


def pixels(images: Images) -> Floats:
    """Images (N, C, H, W) -> values in [0, 1] (N, C * H * W)."""
    return images.reshape(len(images), -1) / 255


def hog(images: Images) -> Floats:
    """Images (N, C, H, W) -> histograms of oriented gradients, nine in cells of a quarter of the side (N, D)."""
    try:
        from skimage.feature import hog as histograms
    except ImportError:
        raise SystemExit("HOG features need scikit-image: pip install 'infoae[dev]'") from None
    cell = max(images.shape[-1] // 4, 1)
    rows = (np.moveaxis(image, 0, -1) for image in images)
    return np.stack(
        [histograms(row, 9, (cell, cell), (2, 2), block_norm="L2-Hys", channel_axis=-1) for row in rows]
    ).astype(np.float64)


def components(features: Callable[[Images], Floats]) -> Callable[[Images, Images], tuple[Floats, Floats]]:
    """Return what brings the features of images to fit and of test images to their components."""

    def made(fit: Images, test: Images) -> tuple[Floats, Floats]:
        values = features(fit)
        projection = PCA(min(COMPONENTS, *values.shape), random_state=0).fit(values)
        return projection.transform(values), projection.transform(features(test))

    return made


def measured(
    fit: Floats,
    test: Floats,
    labels: NDArray[np.int64],
    count: int,
    seeds: list[int],
    methods: dict[str, Callable[[int, int], Any]] = METHODS,
) -> Iterator[Any]:
    """Yield each method with its measures: means over the seeds, and each seed's."""
    for method, build in methods.items():
        found = []
        for seed in seeds:
            start = time.perf_counter()
            clusters = build(count, seed).fit(fit).predict(test).astype(np.int64)
            seconds = round(time.perf_counter() - start, 2)
            result = labelled(clusters, labels, count)
            found.append({"seed": seed, "seconds": seconds} | {name: getattr(result, name) for name in MEASURES})
        means = {name: statistics.fmean(each[name] for each in found) for name in (*MEASURES, "seconds")}
        yield {"method": method} | means | {"of_each": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="NAME|SHARDS")
    parser.add_argument("--data-root", type=Path, help="folder that a data set lies in; mnist needs none")
    parser.add_argument("--categories", type=int, help="clusters; as many as classes if not given")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--fit", type=int, default=20_000, help="training images that are fitted on, the first ones")
    parser.add_argument("--features", type=Path, nargs=2, metavar=("TRAIN.npy", "TEST.npy"), help="rows of images")
    parser.add_argument("--out", type=Path, help="JSON file of all figures")
    arguments = parser.parse_args()
    shards = Path(arguments.data).is_dir()
    given: dict[str, Any] = {
        "name": "shards" if shards else arguments.data,
        "root": arguments.data if shards else arguments.data_root,
        "limit": arguments.fit,
    }
    source = Data(**given)
    train, test = data.load(source, "train"), data.load(source, "test")
    if test.labels is None:
        raise SystemExit(f"{arguments.data} has no labels of test images: infoae convert --labels gives them")
    kinds = {"pixels": components(pixels), "HOG": components(hog)}
    if arguments.features:
        own = [np.load(path)[:rows] for path, rows in zip(arguments.features, map(len, (train, test)), strict=True)]
        if [len(rows) for rows in own] != [len(train), len(test)]:
            raise SystemExit(
                f"{len(own[0])} and {len(own[1])} rows of features are not of {len(train)} training and {len(test)} "
                "test images: give a row for each, in their order"
            )
        kinds["own features"] = lambda *_: (own[0], own[1])
    count, found = arguments.categories or int(test.labels.max()) + 1, []
    for name, features in kinds.items():
        start = time.perf_counter()
        fit, judged = features(train.images, test.images)
        made = {"features": name, "seconds_features": round(time.perf_counter() - start, 2)}
        for result in measured(fit, judged, test.labels, count, arguments.seeds):
            found.append(made | result)
            print({key: value for key, value in found[-1].items() if key != "of_each"}, flush=True)
    if arguments.out:
        sizes = {"images_fitted": len(train), "images_tested": len(test), "clusters": count}
        write_json(arguments.out, sizes | {"clusterings": found})


if __name__ == "__main__":
    main()
