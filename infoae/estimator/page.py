"""What a notebook shows of an estimator: its categories, their sizes, and a few pictures of each."""

from __future__ import annotations

import base64
import html
import io
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from infoae.category_model import CategoryModel
from infoae.data.decode import resized
from infoae.data.image_spec import ImageSpec
from infoae.runs.names import display

EACH, CATEGORIES = 8, 50
"""Pictures of a category, and categories, that are shown."""
SIDE = 32
"""Pixels of a side that larger pictures are shrunk to."""

Examples: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Pictures (M, C, H, W), and the category of each (M,)."""


class Surest:
    """The pictures of each category of which a model is surest, as they come."""

    def __init__(self, model: CategoryModel) -> None:
        channels, side, _ = model.image_shape
        side = min(side, SIDE)
        self._image = ImageSpec.model_validate({"channels": channels, "height": side, "width": side})
        self._pictures = np.empty((0, *self._image.shape), np.uint8)
        self._of, self._sure = np.empty(0, np.int64), np.empty(0, np.float32)

    def add(self, pictures: NDArray[Any], probabilities: NDArray[np.float32]) -> None:
        """Look at pictures uint8 (N, C, H, W) with the probabilities (N, K) that the model gives their categories."""
        of, sure = probabilities.argmax(1), probabilities.max(1, initial=0)
        rows = _surest(of, sure)
        self._pictures = np.concatenate([self._pictures, resized(pictures[rows], self._image)])
        self._of, self._sure = np.concatenate([self._of, of[rows]]), np.concatenate([self._sure, sure[rows]])
        rows = _surest(self._of, self._sure)
        self._pictures, self._of, self._sure = self._pictures[rows], self._of[rows], self._sure[rows]

    def examples(self) -> Examples:
        """Return at most EACH pictures of each category, the surest first."""
        return self._pictures, self._of


def categories(
    labels: NDArray[np.int64] | None, names: list[str | None], pictures: NDArray[np.uint8], of: NDArray[np.int64]
) -> str:
    """Return a table as HTML: each category's name, number of `labels` (N,), and those `pictures` `of` it, inside."""
    sizes = None if labels is None else np.bincount(labels[labels >= 0], minlength=len(names))
    heads = ["", "category", *(["samples"] if sizes is not None else []), *(["surest"] if len(pictures) else [])]
    rows = []
    for category, name in enumerate(display(names)[:CATEGORIES]):
        cells = [str(category), html.escape(name)]
        if sizes is not None:
            cells.append(f"{sizes[category]:,}")
        if len(pictures):
            cells.append("".join(_img(picture, name) for picture in pictures[of == category]))
        rows.append("".join(f"<td>{cell}</td>" for cell in cells))
    left = len(names) - len(rows)
    more = f"<p>and {left:,} more categories</p>" if left else ""
    head = "".join(f"<th>{text}</th>" for text in heads)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<table class="infoae-categories"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}'


def _surest(of: NDArray[np.int64], sure: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the indices of the EACH surest of each category, by category, the surest first."""
    order = np.lexsort((-sure, of))
    place = np.arange(len(order)) - np.searchsorted(of[order], of[order])
    return order[(place < EACH) & (of[order] < CATEGORIES)]


def _img(picture: NDArray[np.uint8], name: str) -> str:
    pixels = picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    content = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img src="data:image/png;base64,{content}" alt="{html.escape(name)}" style="display:inline;margin:1px">'
