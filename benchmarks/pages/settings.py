"""The table of which setting is of which method, read from the source: the configuration itself needs pydantic."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from benchmarks.pages.results import Results, table

CONFIG = Path(__file__).resolve().parents[2] / "infoae" / "config"


def by_method(_: Results) -> list[str]:
    """The settings, or sections of them, that not every method has: who has them, the default, and what they are."""
    methods, methods_of = _methods()
    read = [*_read("features.py"), *_read("sections.py"), *_read("schema.py")]
    sections = {each.name: each for each in read if isinstance(each, ast.ClassDef)}
    known = {key: rest for key, *rest in _settings(sections, "Config")}
    rows = [
        [f"`{key}`", *("•" if method in having else "" for method in methods), *known[key]]
        for key, having in methods_of.items()
    ]
    return table(["setting", *methods, "default", "what it is"], rows)


def _read(name: str) -> list[ast.stmt]:
    return ast.parse((CONFIG / name).read_text(encoding="utf-8")).body


def _methods() -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Return the methods, and those that have each setting that is not of all."""
    constants = [each for each in _read("methods.py") if isinstance(each, (ast.Assign, ast.AnnAssign))]
    imported = [each for each in _read("methods.py") if isinstance(each, ast.ImportFrom) and each.module != "pydantic"]
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    exec(compile(ast.Module([*imported, *constants], []), "methods.py", "exec"), found)  # noqa: S102  our own source
    return tuple(found["METHODS"]), found["_OF"]


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
