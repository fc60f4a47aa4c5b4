"""The rows of a result: which columns they have, and how answers become an Arrow batch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from infoae.deploy.bundle import Manifest
from infoae.deploy.session import Answers
from infoae.errors import UsageError

DEFAULT_COLUMNS = ("path", "label", "name", "confidence", "top2_label", "top2_confidence", "error")
_RANKED = re.compile(r"(?:top([1-9]\d*)_)?(label|name|confidence)")


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

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema: strings, int32 labels, float32 confidences, the latent as a list of Z float32."""
        kinds = {"label": pa.int32(), "confidence": pa.float32()}
        fields = [(name, kinds.get(name.rpartition("_")[2], pa.string())) for name in self.columns]
        if self.latent:
            fields.append(("latent", pa.list_(pa.float32(), self.manifest.latent_dim)))
        return pa.schema(fields)

    def batch(self, keys: Sequence[str], answers: Answers, errors: Sequence[str | None]) -> pa.RecordBatch:
        """Return N rows: `keys` and `errors` have N entries, `answers` one for each input without an error, in order."""
        failed = np.array([error is not None for error in errors], bool)
        # Row i of the answers belongs to the i-th input without an error; the others take any row and are masked.
        rows = np.maximum(np.cumsum(~failed) - 1, 0)
        depth = max((int(match[1] or 1) for name in self.columns if (match := _RANKED.fullmatch(name))), default=0)
        ranked, confidences = _top(answers.probabilities, depth)
        names = np.array(self.manifest.category_names, dtype=object)
        nothing = len(answers) == 0
        arrays = []
        for name, kind in zip(self.schema.names, self.schema.types, strict=True):
            if name in ("path", "error"):
                arrays.append(pa.array(keys if name == "path" else errors, kind))
            elif nothing:
                arrays.append(pa.nulls(len(keys), kind))
            elif name == "latent":
                arrays.append(_latent(answers.latent[rows], failed, kind))
            else:
                match = _RANKED.fullmatch(name)
                assert match is not None, name
                values = (confidences if match[2] == "confidence" else ranked)[rows, int(match[1] or 1) - 1]
                values = names[values] if match[2] == "name" else values
                arrays.append(pa.array(values, kind, mask=failed, from_pandas=False))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def _top(probabilities: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """The `depth` most probable categories of each row, (N, depth), and their probabilities; ties by number."""
    if depth == 1:
        ranked = probabilities.argmax(axis=1)[:, None]
    else:
        ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :depth]
    return ranked, np.take_along_axis(probabilities, ranked, axis=1)


def _latent(latent: np.ndarray, failed: np.ndarray, kind: pa.DataType) -> pa.Array:
    values = pa.array(np.ascontiguousarray(latent).ravel(), pa.float32())
    return pa.FixedSizeListArray.from_arrays(values, type=kind, mask=pa.array(failed))
