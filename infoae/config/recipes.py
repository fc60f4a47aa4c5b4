"""How recipes, YAML, `--set` and sweeps become one validated `Config`, and a `Config` YAML again."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from infoae.config import plain_yaml, renamed
from infoae.config.schema import Config
from infoae.config.validation import explain
from infoae.errors import Notice, UsageError, one_line, shown
from infoae.limits import MAX_CATEGORIES, MAX_YAML_CHARACTERS

MOST_OVER_CATEGORIES = 500
"""As many as recipes get by themselves: a step's work grows with their square, that of merging with their cube."""


def available() -> dict[str, Path]:
    """Return the recipes that come with infoae, name -> YAML file."""
    folder = Path(str(files("infoae") / "configs"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load(source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a recipe by name or a YAML file, write `a.b=value` overrides into it, validate once.

    Raises UsageError with the dotted key, what was given, and the nearest valid key.
    """
    path, text = read_named(source, available(), "recipe")
    return parse(text, str(path), overrides)


def over_categories(source: str | Path, overrides: Sequence[str], categories: str) -> list[str]:
    """Return the override by which over-categories keep their proportion to more `categories` than a recipe has.

    Up to MOST_OVER_CATEGORIES; beyond so many categories there is one for each. None where there are enough, where
    `overrides` say how many, and for auto. Raises UsageError as `load` does.
    """
    if any(override.startswith("model.num_over_categories=") for override in overrides):
        return []  # which may be too few for the recipe's own categories
    model = load(source, overrides).model
    over, usual = model.num_over_categories, model.num_categories
    wanted = plain_yaml.read(categories, "--categories")
    if over is None or usual == "auto" or not isinstance(wanted, int) or not usual < wanted <= MAX_CATEGORIES:
        return []  # too many are refused where all settings are
    return [f"model.num_over_categories={max(wanted, min(over * wanted // usual, MOST_OVER_CATEGORIES))}"]


def override(key: str, value: object) -> str:
    """Return the override that sets `key` to `value`; text and paths stay what they are, whatever they look like."""
    return f"{key}={plain_yaml.quoted(str(value)) if isinstance(value, str | Path) else value}"


def read_named(source: str | Path, known: Mapping[str, Path], what: str) -> tuple[Path, str]:
    """Return path and text of the file, a `what`, that `source` names among `known` or is. Raises UsageError."""
    path = known.get(str(source), Path(source))
    try:
        with path.open(encoding="utf-8") as file:  # which may be /dev/zero
            return path, file.read(MAX_YAML_CHARACTERS + 1)
    except OSError as error:
        raise UsageError(
            f"no {what} or readable file {str(source)!r} ({one_line(error)}); there are {', '.join(known)}"
        ) from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not a UTF-8 YAML file") from None


def parse(text: str, origin: str, overrides: Sequence[str] = ()) -> Config:
    """Validate YAML `text` from `origin` with `overrides` written into it.

    Keys of version 0.1 are taken for what they are called now, with a Notice. Raises UsageError.
    """
    tree = plain_yaml.read(text, origin)
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise UsageError(f"{origin} holds {type(tree).__name__}, not a mapping of configuration sections")
    old, told = renamed.rename(tree), list[str]()
    settings = [override.partition("=") for override in overrides]
    _begin_anew(tree, [key for key, _, _ in settings])
    for override, (key, equals, value) in zip(overrides, settings, strict=True):
        if not equals or not all(key.split(".")):
            raise UsageError(f"--set takes section.key=value, not {shown(override)}")
        told += [key] * (key in renamed.RENAMED)
        _write(tree, key, plain_yaml.read(value, f"--set {key}"), f"--set {key}")
    for keys, where in ((old, f"{origin} has"), (told, "--set has")):
        if keys:
            names = ", ".join(f"{key} is now {renamed.current_key(key)}" for key in dict.fromkeys(keys))
            warnings.warn(f"{where} keys of infoae 0.1: {names}", Notice, stacklevel=2)
    return _validated(tree, origin)


def replaced(config: Config, values: Mapping[str, Any], origin: str) -> Config:
    """Return `config` with dotted keys, of now or then, set to `values`, validated.

    Raises UsageError that begins with `origin`.
    """
    tree = config.settings()
    _begin_anew(tree, values)
    for key, value in values.items():
        _write(tree, key, value, f"{origin}: {key}")
    return _validated(tree, origin)


def _validated(tree: dict[Any, Any], origin: str) -> Config:
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise UsageError(f"{origin}: " + "; ".join(explain(error, Config))) from None


def dump(config: Config) -> str:
    """Return the configuration as YAML, every key of its method written out."""
    return plain_yaml.write(config.settings())


def _begin_anew(tree: dict[Any, Any], keys: Collection[str]) -> None:
    """Leave out the numbers that a recipe or a run has for the kind of its own images, if `keys` set another."""
    if "augment.kind" in keys and isinstance(tree.get("augment"), dict):
        del tree["augment"]


def _write(tree: dict[Any, Any], key: str, value: Any, origin: str) -> None:
    value = renamed.current_value(key, value)
    *sections, last = renamed.current_key(key).split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise UsageError(f"{origin}: {section} is not a section")
    tree[last] = value
