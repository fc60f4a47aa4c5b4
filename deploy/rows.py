"""The rows of a result: which columns they have, and how answers become an Arrow batch."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from infoae.deploy.bundle import Manifest
from infoae.deploy.classifier import Answers
from infoae.errors import UsageError

DEFAULT_COLUMNS = ("path", "label", "name", "confidence", "top2_label", "top2_confidence", "error")
_RANKED = re.compile(r"(?:top([1-9]\d{0,8})_)?(label|name|confidence)")


@dataclass(frozen=True)
class RowFormat:
    """The columns of a result, in order; with `latent` the latent follows them.

    `path`, `error`; `label` (the category's number), `name`, `confidence`; the same of the k-th most probable category
    as `topK_label`, `topK_name`, `topK_confidence`. A row with an error has no values but its path.
    """

    manifest: Manifest
    columns: tuple[str, ...] = DEFAULT_COLUMNS
    latent: bool = False

    @classmethod
    def parse(cls, manifest: Manifest, columns: str | None, latent: bool) -> RowFormat:
        """Read a comma-separated list. Raises UsageError for an unknown or repeated column."""
        names = DEFAULT_COLUMNS if columns is None else tuple(name.strip() for name in columns.split(","))
        if columns is None and manifest.num_categories < 2:
            names = tuple(name for name in names if not name.startswith("top2"))
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"column {name!r} is given more than once")
            ranked = _RANKED.fullmatch(name)
            if name not in ("path", "error") and (ranked is None or int(ranked[1] or 1) > manifest.num_categories):
                raise UsageError(
                    f"no column {name!r}: choose from path, error, label, name, confidence "
                    f"and topK_label, topK_name, topK_confidence with K up to {manifest.num_categories}"
                )
        return cls(manifest, names, latent)

    @functools.cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema: strings, int32 labels, float32 confidences, the latent as a list of Z float32."""
        kinds = {"label": pa.int32(), "confidence": pa.float32()}
        fields = [(name, kinds.get(name.rpartition("_")[2], pa.string())) for name in self.columns]
        if self.latent:
            fields.append(("latent", pa.list_(pa.float32(), self.manifest.latent_dim)))
        return pa.schema(fields)

    def batch(self, keys: Sequence[str], answers: Answers, errors: Sequence[str | None]) -> pa.RecordBatch:
        """Return N rows: N `keys`, N `errors` (None: readable), and `answers` of the readable inputs, in order."""
        failed = np.array([error is not None for error in errors], bool)
        # Row i of the answers belongs to the i-th input without an error; the others take any row and are masked.
        rows = np.maximum(np.cumsum(~failed) - 1, 0)
        depth = max((int(match[1] or 1) for name in self.columns if (match := _RANKED.fullmatch(name))), default=0)
        ranked, confidences = _top(answers.probabilities, depth)
        names = pa.array(self.manifest.category_names)
        arrays = []
        for name, kind in zip(self.schema.names, self.schema.types, strict=True):
            match = _RANKED.fullmatch(name)
            if match is None and name != "latent":
                arrays.append(pa.array(keys if name == "path" else errors, kind))
            elif len(answers) == 0:
                arrays.append(pa.nulls(len(keys), kind))
            elif match is None:
                values = pa.array(answers.latent[rows].ravel())
                arrays.append(pa.FixedSizeListArray.from_arrays(values, type=kind, mask=pa.array(failed)))
            elif match[2] == "confidence":
                arrays.append(pa.array(confidences[rows, int(match[1] or 1) - 1], kind, mask=failed))
            else:
                labels = pa.array(ranked[rows, int(match[1] or 1) - 1], pa.int32(), mask=failed)
                arrays.append(labels if match[2] == "label" else names.take(labels))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def _top(probabilities: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """The `depth` most probable categories of each row, (N, depth), and their probabilities; ties by number."""
    if depth == 1:
        ranked = probabilities.argmax(axis=1)[:, None]
    else:
        ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :depth]
    return ranked, np.take_along_axis(probabilities, ranked, axis=1)
