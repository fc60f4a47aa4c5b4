"""What keys of a configuration hold: what all sections have in common, and kinds of numbers and words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

from infoae.limits import COUNT, MAX_BATCH, MAX_CATEGORIES, MAX_NEIGHBOURS, MAX_UNITS, Limit


@dataclass(frozen=True)
class AtMost:
    """The largest value of a key, which can be raised; the message says how."""

    limit: Limit

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        """Let pydantic check it after all else."""
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Let the JSON Schema have it as `maximum`."""
        return handler(schema) | {"maximum": int(self.limit)}

    def _checked(self, value: int) -> int:
        if value > self.limit:
            raise ValueError(f"Input should be at most {self.limit}")
        return value


PositiveInt = Annotated[int, Field(ge=1, le=COUNT)]
Count = Annotated[int, Field(ge=0, le=COUNT)]
Units = Annotated[int, Field(ge=1), AtMost(MAX_UNITS)]
Categories = Annotated[int, Field(ge=2), AtMost(MAX_CATEGORIES)]
Batch = Annotated[int, Field(ge=2), AtMost(MAX_BATCH)]
NumNeighbours = Annotated[int, Field(ge=1), AtMost(MAX_NEIGHBOURS)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
Rate = Annotated[float, Field(gt=0)]
Pixels = Annotated[float, Field(ge=0, le=100)]

ReconstructionDistance = Literal["squared", "absolute", "cross-entropy"]
MergingCriterion = Literal["mutual_information", "distinctness"]
NeighbourSearch = Literal["auto", "exact", "approximate"]
NeighbourSource = Literal["pixels", "learned", "given"]
Norm = Literal["batch", "spectral", "none"]
DataName = Literal["mnist", "fashion-mnist", "kmnist", "emnist", "usps", "svhn", "cifar10", "shards", "files"]


class Section(BaseModel):
    """A part of the configuration: immutable, unknown keys refused, and text or true not taken for a number."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
