"""The paper's data augmentation: new images of a category, each between two images that the model puts in it."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infoae.cpus import available_cpus
from infoae.data.decode import DEFAULTS, DecodeOptions
from infoae.deploy.classifier import BATCH_SIZE, Classifier
from infoae.deploy.generator import Generator
from infoae.deploy.pictures import Pictures
from infoae.errors import InfoAEError
from infoae.inputs.blocks import Source
from infoae.inputs.decoding import decode, largest, ordered_map, read_blocks


@dataclass(frozen=True)
class Encoded:
    """N readable inputs after classification: `keys`, `labels` (N,) and `latent` float32 (N, Z); how many were not.

    `passed_over` and `peak` are as in Summary.
    """

    keys: list[str]
    labels: NDArray[np.int64]
    latent: NDArray[np.float32]
    num_failed: int
    passed_over: Counter[str]
    peak: int | None


def encode_sources(
    sources: Sequence[Source],
    classifier: Classifier,
    advance: Callable[[int], object] = lambda _: None,
    options: DecodeOptions = DEFAULTS,
) -> Encoded:
    """Classify every input. Holds key and latent of each in memory: about 4 * Z + 100 bytes an image.

    Raises InfoAEError if none can be read.
    """
    keys: list[str] = []
    labels, latent = [np.empty(0, np.int64)], [np.empty((0, classifier.manifest.latent_dim), np.float32)]
    num_failed, peak = 0, None
    passed_over: Counter[str] = Counter()
    image, options = classifier.manifest.image, classifier.manifest.decoding(options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in classify_sources
        blocks = read_blocks(sources, BATCH_SIZE)
        for decoded in ordered_map(lambda block: decode(block, image, options), blocks, available_cpus()):
            answers = classifier.classify(decoded.images)
            keys += [key for key, error in zip(decoded.keys, decoded.errors, strict=True) if error is None]
            labels.append(answers.labels)
            latent.append(answers.latent)
            num_failed += len(decoded.keys) - len(answers)
            passed_over += decoded.passed_over
            peak = largest(peak, decoded.peak)
            advance(len(decoded.keys))
    if not keys:
        raise InfoAEError("the inputs hold no image that can be read")
    return Encoded(keys, np.concatenate(labels), np.concatenate(latent), num_failed, passed_over, peak)


def interpolations(encoded: Encoded, generator: Generator, count: int, seed: int) -> Iterator[Pictures]:
    """Yield `count` images of each category that has at least two inputs, at most BATCH_SIZE at a time.

    Each lies at a random point between the latents of two different random inputs of its category; the same for the
    same `seed`. Raises InfoAEError if no category has two inputs.
    """
    found = False
    for category in range(generator.manifest.num_categories):
        members = np.flatnonzero(encoded.labels == category)
        if len(members) < 2:
            continue
        found = True
        random = np.random.default_rng([seed, category])
        first = random.integers(len(members), size=count)
        second = (first + random.integers(1, len(members), size=count)) % len(members)  # never the same input
        first, second = members[first], members[second]
        weight = random.random(count, dtype=np.float32)
        for start in range(0, count, BATCH_SIZE):
            part = slice(start, start + BATCH_SIZE)
            images = generator.interpolate(encoded.latent[first[part]], encoded.latent[second[part]], weight[part])
            origin = [
                {"first": encoded.keys[a], "second": encoded.keys[b], "weight": f"{w:.4f}"}
                for a, b, w in zip(first[part], second[part], weight[part], strict=True)
            ]
            yield Pictures(category, images, origin)
    if not found:
        raise InfoAEError("no category has two of the inputs: there is nothing to interpolate between")
