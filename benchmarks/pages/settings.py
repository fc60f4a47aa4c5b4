"""Tables of settings, by method and by kind of images, read from the source: the configuration needs pydantic."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.pages.results import Results, table

CONFIG = Path(__file__).resolve().parents[2] / "infoae" / "config"


def by_method(_: Results) -> list[str]:
    """The settings, or sections of them, that not every method has: who has them, the default, and what they are."""
    methods, methods_of = _methods()
    read = [*_read("features.py"), *_read("sections.py"), *_read("augment.py"), *_read("schema.py")]
    sections = {each.name: each for each in read if isinstance(each, ast.ClassDef)}
    known = {key: rest for key, *rest in _settings(sections, "Config")}
    rows = [
        [f"`{key}`", *("•" if method in having else "" for method in methods), *known[key]]
        for key, having in methods_of.items()
    ]
    return table(["setting", *methods, "default", "what it is"], rows)


def by_kind(_: Results) -> list[str]:
    """The numbers of augmentation that kinds of images set; empty is 0."""
    (section,) = (each for each in _read("augment.py") if isinstance(each, ast.ClassDef))
    recipes = _constants("augment.py")["RECIPES"]
    rows = [
        [f"`{key}`", *(str(recipe.get(key, default)).removesuffix(".0") for recipe in recipes.values())]
        for key, default, _ in _settings({"Augment": section}, "Augment")
        if any(key in recipe for recipe in recipes.values())
    ]
    kinds = [f"`{kind}`" for kind in recipes]
    return table(["in `augment`", *kinds], [["" if cell == "0" else cell for cell in row] for row in rows])


def _read(name: str) -> list[ast.stmt]:
    return ast.parse((CONFIG / name).read_text(encoding="utf-8")).body


def _methods() -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Return the methods, and those that have each setting that is not of all."""
    found = _constants("methods.py")
    return found["METHODS"], found["_OF"]


def _constants(name: str) -> dict[str, Any]:
    """Return the annotated constants of a module, which need the standard library alone."""
    body = _read(name)
    constants = [each for each in body if isinstance(each, ast.AnnAssign)]
    imported = [
        each
        for each in body
        if isinstance(each, ast.ImportFrom) and not str(each.module).startswith(("infoae", "pydantic"))
    ]
    found: dict[str, Any] = {}
    exec(compile(ast.Module([*imported, *constants], []), name, "exec"), found)  # noqa: S102  our own source
    return found


def _settings(sections: dict[str, ast.ClassDef], section: str, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield dotted key, default and meaning of each setting and section in a section."""
    body = sections[section].body
    for field, docstring in zip(body, [*body[1:], None], strict=True):
        if not isinstance(field, ast.AnnAssign):
            continue
        key, kind = f"{prefix}{ast.unparse(field.target)}", ast.unparse(field.annotation)
        if kind in sections:
            yield key, "", _first_sentence(ast.get_docstring(sections[kind]) or "")
            yield from _settings(sections, kind, f"{key}.")
        elif field.value is not None and isinstance(docstring, ast.Expr):
            default = ast.literal_eval(field.value)
            yield key, "" if default is None else str(default), _first_sentence(ast.literal_eval(docstring.value))


def _first_sentence(text: str) -> str:
    return " ".join(text.split()).partition(". ")[0].removesuffix(".")
