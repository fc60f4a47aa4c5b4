"""What the model says of all pictures of a gallery, chunk by chunk: only what the page shows is kept of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from infoae.category_model import CategoryModel
from infoae.errors import InfoAEError
from infoae.gallery.pictures import THUMBNAIL, Pictures
from infoae.gallery.sheets import Spool, encode, picture_of
from infoae.inputs.decoding import check_any
from infoae.limits import MAX_GALLERY

TOP = 3
"""Answers of a picture that are kept, the most probable first."""


@dataclass(frozen=True)
class Answered:
    """N pictures and the answers for them.

    `paths` are N; `categories` int (N, T) are the T most probable ones, the first being the answer, `probabilities`
    float32 (N, T) those of them; `latents` are float32 (N, Z). `over` int (N,) is the most probable over-category of
    those in the answer. `passed_over` counts the files that are not among them.
    """

    paths: list[str]
    categories: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    latents: NDArray[np.float32]
    over: NDArray[np.int64]
    passed_over: Counter[str]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def margins(self) -> NDArray[np.float32]:
        """How much more probable the answer is than the next category, (N,); of one category its probability."""
        following = self.probabilities[:, 1] if self.probabilities.shape[1] > 1 else np.float32(0)
        margins: NDArray[np.float32] = self.probabilities[:, 0] - following
        return margins


def answers_for(
    pictures: Pictures,
    model: CategoryModel,
    thumbnails: Spool,
    reconstructions: Spool | None,
    advance: Callable[[int], object] = lambda _: None,
) -> Answered:
    """Ask `model` about all `pictures`, and fill `thumbnails`, and `reconstructions` of a model that has a decoder.

    Raises InfoAEError where there is no picture, or more than MAX_GALLERY.
    """
    paths: list[str] = []
    tops: list[NDArray[np.int64]] = []
    probabilities: list[NDArray[np.float32]] = []
    latents: list[NDArray[np.float32]] = []
    overs: list[NDArray[np.int64]] = []
    passed_over: Counter[str] = Counter()
    for chunk in pictures.chunks:
        passed_over += chunk.passed_over
        if not chunk.paths:
            continue
        if len(paths) + len(chunk.paths) > MAX_GALLERY:
            raise InfoAEError(f"{pictures.origin}: more pictures than {MAX_GALLERY}; give --data a part of them")
        z = model.encode(chunk.inputs)
        over = _classified(model, z)
        found = model.merge_probabilities(over).topk(min(TOP, model.num_categories))
        elsewhere = model.category_of.cpu() != found.indices[:, :1]
        paths += chunk.paths
        tops.append(found.indices.numpy())
        probabilities.append(found.values.numpy())
        latents.append(z.numpy())
        overs.append(over.masked_fill(elsewhere, -1).argmax(1).numpy())
        for thumbnail, encoded in chunk.thumbnails:
            thumbnails.append(thumbnail, encoded)
        if reconstructions is not None:
            for picture in _reconstructed(model, z):
                reconstructions.append(picture, encode(picture))
        advance(len(chunk.paths))
    check_any(len(paths), passed_over)
    return Answered(
        paths,
        np.concatenate(tops),
        np.concatenate(probabilities),
        np.concatenate(latents),
        np.concatenate(overs),
        passed_over,
    )


@torch.inference_mode()
def _classified(model: CategoryModel, z: torch.Tensor) -> torch.Tensor:
    """Latents (B, Z) -> probabilities of over-categories (B, M) on the CPU, as `classify_over` gives them."""
    device = next(model.parameters()).device
    over: torch.Tensor = model.classifier(z.to(device)).softmax(1)
    return over.float().cpu()


def _reconstructed(model: CategoryModel, z: torch.Tensor) -> list[Image.Image]:
    drawn = (model.decode(z).clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return [picture_of(pixels, THUMBNAIL) for pixels in drawn]
