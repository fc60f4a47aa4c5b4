"""Joint distributions of a model's answers for images and for their partners."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from infoae.augment import augmented
from infoae.category_model import BATCH, CategoryModel
from infoae.config import Augment
from infoae.random_streams import Stream, generator

Floats = NDArray[np.float64]
Inputs = NDArray[np.uint8] | NDArray[np.float32]
"""Images (N, C, H, W), or features (N, D)."""

NOTHING = 1e-18
"""A probability below, squared, is less than 2^-126."""

TWIN = Augment()
"""How partners are augmented to measure: the same for every run, so that runs can be compared."""


def of_partners(model: CategoryModel, answers: Tensor, partners: Inputs, seed: int = 0) -> Floats:
    """Return each head's joint distribution (H, M, M) of its `answers` (N, H, M) and those for augmented partners.

    `partners` are images (N, C, H, W), or features (N, D), which are not augmented.
    """
    return of_answers(answers, torch.from_numpy(classify_augmented(model, partners, seed, model.classify_heads)))


def of_answers(answers: Tensor, others: Tensor) -> Floats:
    """Return each head's symmetric joint distribution (H, M, M) of two sets of answers (N, H, M)."""
    # What adds nothing is 0: sums of numbers too small for the format's full precision take a CPU ten times as long.
    first, second = (F.threshold(each.float(), NOTHING, 0.0) for each in (answers, others))
    joint = (first.permute(1, 2, 0) @ second.transpose(0, 1)).double() / len(answers)
    return np.asarray((joint + joint.mT).numpy() / 2)


def classify_augmented(
    model: CategoryModel,
    images: Inputs,
    seed: int,
    classify: Callable[[Tensor], Tensor],
    augment: Augment = TWIN,
) -> Floats:
    """Return what `classify` answers (N, ...) for images (N, C, H, W), each augmented once, or for features as such."""
    if images.ndim == 2:
        return classify(torch.tensor(images)).numpy().astype(np.float64)
    parts = (model.to_input(images[start : start + BATCH]) for start in range(0, len(images), BATCH))
    return torch.cat([classify(part) for part in twins(parts, seed, augment)]).numpy().astype(np.float64)


def twins(parts: Iterable[Tensor], seed: int, augment: Augment = TWIN) -> Iterator[Tensor]:
    """Yield the augmented twins of images in [0, 1], part by part (B, C, H, W): the same of the same parts and seed."""
    random = generator(seed, Stream.EVALUATION)
    return (augmented(part, augment, random).clamp(0, 1) for part in parts)
