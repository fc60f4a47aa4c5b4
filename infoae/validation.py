"""What pydantic finds wrong with a configuration, in words: the dotted key, what was given, the nearest valid key."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from pydantic import BaseModel, ValidationError


def explain(error: ValidationError, section: type[BaseModel]) -> Iterator[str]:
    """Yield a sentence for each thing that is wrong with what `section` was validated from."""
    valid = list(_keys(section))
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            yield f"unknown key {key} (given {item['input']!r}); did you mean {_nearest(key, valid)}?"
        else:
            given = "" if isinstance(item["input"], dict) else f" (given {item['input']!r})"
            yield f"{key}: {item['msg'].removeprefix('Value error, ')}{given}"


def _nearest(key: str, valid: list[str]) -> str:
    """Return the key of the same section with the most similar name, of any section if there is no such section."""
    section, _, name = key.rpartition(".")
    siblings = [other for other in valid if section and other.rpartition(".")[0] == section]
    if siblings:
        names = [other.rpartition(".")[2] for other in siblings]
        return siblings[names.index(difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0])]
    return difflib.get_close_matches(key, valid, n=1, cutoff=0.0)[0]


def _keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted key of every value."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name
