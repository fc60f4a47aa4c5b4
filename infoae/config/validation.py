"""What pydantic finds wrong with a configuration, in words: the dotted key, what was given, the nearest valid key."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterator
from typing import get_args

from pydantic import BaseModel, ValidationError

from infoae.config.renamed import RENAMED
from infoae.errors import shown


def explain(error: ValidationError, section: type[BaseModel]) -> Iterator[str]:
    """Yield a sentence for each thing that is wrong with what `section` was validated from."""
    valid = list(_keys(section))
    for key, items in itertools.groupby(error.errors(), lambda item: _key(section, item["loc"])):
        first, *others = items
        if first["type"] == "extra_forbidden":
            name, value = key, first["input"]
            while isinstance(value, dict) and value:  # a section that is not there: the first key in it
                inner, value = next(iter(value.items()))
                name = f"{name}.{_word(inner)}"
            yield f"unknown key {name} (given {shown(value)}); did you mean {_nearest(_unnumbered(name), valid)}?"
        else:
            given = "" if isinstance(first["input"], dict) else f" (given {_without_key(shown(first['input']))})"
            messages = [item["msg"].removeprefix("Value error, ") for item in (first, *others)]
            yield f"{key}: {', or '.join(messages)}{given}" if key else f"{', or '.join(messages)}{given}"


def _key(section: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """Return the dotted key of an error, without the type that pydantic adds where a key takes one of several."""
    names: list[str] = []
    inside: type[BaseModel] | None = section
    for part in location:
        if inside is None and str(part).startswith(("constrained-", "function-after[", "literal[")):
            break
        names.append(_word(part))
        if not isinstance(part, int):  # a place in a list of sections
            field = None if inside is None else inside.model_fields.get(part)
            inside = None if field is None else _section(field.annotation)
    return ".".join(names)


def _without_key(text: str) -> str:
    """Return a text without what stands before the host of an address: a key would be shown, and logged."""
    return re.sub(r"://[^/@]*@", "://…@", text)


def _word(name: object) -> str:
    """Return a name as it is, if it is one; a name that a file made up may hold anything."""
    return str(name) if re.fullmatch(r"[\w[\]-]{1,60}", str(name)) else shown(name)


def _section(annotation: object) -> type[BaseModel] | None:
    """Return the section that a key holds, or may hold, or holds a list of; None for one that holds a value."""
    for each in (annotation, *get_args(annotation)):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    return None


def _unnumbered(key: str) -> str:
    """Return a key without places in lists."""
    return ".".join(part for part in key.split(".") if not part.isdigit())


def _nearest(key: str, valid: list[str]) -> str:
    """Return the key of the same section with the most similar name, of any section if there is no such section.

    In a section of version 0.1 it is the name of today of the key of then.
    """
    section, _, name = key.rpartition(".")
    then = [old for old in RENAMED if section and old.rpartition(".")[0] == section]
    if then and not any(other.startswith(f"{section}.") for other in valid):
        names = [old.rpartition(".")[2] for old in then]
        return RENAMED[then[names.index(difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0])]]
    siblings = [other for other in valid if section and other.rpartition(".")[0] == section]
    if siblings:
        names = [other.rpartition(".")[2] for other in siblings]
        return siblings[names.index(difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0])]
    return difflib.get_close_matches(key, valid, n=1, cutoff=0.0)[0]


def _keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted key of every value."""
    for name, field in section.model_fields.items():
        inside = _section(field.annotation)
        if inside is None:
            yield prefix + name
        else:
            yield from _keys(inside, f"{prefix}{name}.")
