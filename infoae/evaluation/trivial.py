"""How far categories are what needs no training: k-means on pixels or colour, and what a thumbnail tells of them.

No label is used. Agreement is adjusted mutual information (Vinh, Epps and Bailey 2010): 1 for the same clusters under
other numbers, 0 for what chance would give. Unlike the normalised one it stays there with many categories or few
images, so that one bound fits all of these.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from infoae import metrics
from infoae.category_model import BATCH
from infoae.pseudolabels import joint

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

SIDE = 32  # pixels: of larger images, which are averaged down, no more is seen
THUMBNAIL = 4  # pixels to a side: where an image is light, dark or coloured, and no shape in it
COMPONENTS = 50
NEIGHBOURS = 10
FEW = 64  # clusters, which all images are compared with at each step of k-means; more take a part of them at a time


@dataclass(frozen=True)
class Clustering:
    """The categories beside a clustering of the same images that no network was trained for."""

    agreement: float
    """Adjusted mutual information of the categories and the clusters: 0 is chance, 1 the same."""
    mutual_information: float
    """Nats between the clusters of an image and of its augmented twin, as `label_free` has it of the categories."""


@dataclass(frozen=True)
class Trivial:
    """The categories beside what can be read off an image: as many clusters of k-means, and nearest neighbours."""

    pixels: Clustering
    """K-means on 50 principal components of the pixels."""
    colour: Clustering
    """K-means on the mean of each channel and the deviation of the brightness."""
    predicted_by_pixels: float
    """Adjusted mutual information of the categories and those of the nearest other images, by the same components."""
    predicted_by_thumbnail: float
    """The same by images averaged down to 4 x 4 pixels: of categories that are shapes it is lower."""

    def measures(self) -> dict[str, float]:
        """Return each measure by a name for people."""
        beside = {"pixels": self.pixels, "colour": self.colour}
        return {
            **{f"nats of k-means on {of}": each.mutual_information for of, each in beside.items()},
            **{f"agreement with k-means on {of}": each.agreement for of, each in beside.items()},
            "predicted by pixels": self.predicted_by_pixels,
            "predicted by 4 x 4 pixels": self.predicted_by_thumbnail,
        }


def compared(images: NDArray[np.uint8], categories: Ints, num_categories: int, seed: int = 0) -> Trivial:
    """Compare the categories (N,) of images (N, C, H, W) with what is trivial, the same for the same seed.

    Work grows with N squared: a second for 10,000.
    """
    originals = torch.cat([_small(part) for part in _parts(images)])
    twins = torch.cat([_small(part) for part in joint.twins(_parts(images), seed)])
    with threadpool_limits(1):  # sums of several threads are rounded by who comes first
        components = principal_components(originals, seed)
        pixels, colours, tiny = components(originals), colour(originals), thumbnails(originals)
        return Trivial(
            pixels=_beside(pixels, components(twins), categories, num_categories, seed),
            colour=_beside(colours, colour(twins), categories, num_categories, seed),
            predicted_by_pixels=predicted(pixels, categories),
            predicted_by_thumbnail=predicted(tiny, categories),
        )


def principal_components(images: Tensor, seed: int) -> Callable[[Tensor], Floats]:
    """Return what maps images (N, C, H, W) to their components (N, 50) along the directions in which `images` vary."""
    from sklearn.utils.extmath import randomized_svd

    pixels = images.flatten(1).numpy()
    mean = pixels.mean(0)
    axes = randomized_svd(pixels - mean, min(COMPONENTS, *pixels.shape), n_iter=2, random_state=seed)[2].T
    return lambda x: np.asarray((x.flatten(1).numpy() - mean) @ axes)


def colour(images: Tensor) -> Floats:
    """Images (N, C, H, W) -> mean of each channel and deviation of the brightness, the mean of channels (N, C + 1)."""
    brightness = images.mean(1).flatten(1)
    return torch.cat([images.mean((2, 3)), brightness.std(1, correction=0, keepdim=True)], 1).numpy()


def thumbnails(images: Tensor) -> Floats:
    """Images (N, C, H, W) -> averaged down to 4 x 4 pixels (N, C * 16)."""
    return F.adaptive_avg_pool2d(images, THUMBNAIL).flatten(1).numpy()


def k_means(points: Floats, others: Floats, num_clusters: int, seed: int) -> tuple[Ints, Ints]:
    """Find clusters of `points` (N, D); returns those of points (N,) and of others (M, D), too."""
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning

    method = KMeans if num_clusters <= FEW else MiniBatchKMeans
    found = method(min(num_clusters, len(points)), n_init=1, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different points than clusters
        found.fit(points)
    return found.predict(points).astype(np.int64), found.predict(others).astype(np.int64)


def predicted(points: Floats, categories: Ints) -> float:
    """Return how well the nearest of one half of `points` (N, D) tell the categories (N,) of the other: 0 is chance."""
    from sklearn.neighbors import KNeighborsClassifier

    known = len(points) // 2
    if not known:
        return 0.0
    nearest = KNeighborsClassifier(min(NEIGHBOURS, known), algorithm="brute").fit(points[:known], categories[:known])
    return agreement(categories[known:], nearest.predict(points[known:]))


def agreement(first: Ints, second: Ints) -> float:
    """Return the adjusted mutual information of two clusterings (N,); 0 where one has a single cluster."""
    from sklearn.metrics import adjusted_mutual_info_score

    if min(len(np.unique(first)), len(np.unique(second))) < 2:
        return 0.0  # nothing is told apart; scikit-learn calls two such the same
    return float(adjusted_mutual_info_score(first, second))


def _beside(originals: Floats, twins: Floats, categories: Ints, num_categories: int, seed: int) -> Clustering:
    clusters, of_twins = k_means(originals, twins, num_categories, seed)
    counts = metrics.confusion_matrix(clusters, of_twins, num_categories, num_categories)
    pairs = (counts + counts.T) / (2 * len(clusters))
    return Clustering(agreement(categories, clusters), metrics.mutual_information(pairs))


def _parts(images: NDArray[np.uint8]) -> Iterator[Tensor]:
    return (torch.tensor(images[start : start + BATCH]).float() / 255 for start in range(0, len(images), BATCH))


def _small(images: Tensor) -> Tensor:
    return images if images.shape[-1] <= SIDE else F.adaptive_avg_pool2d(images, SIDE)
