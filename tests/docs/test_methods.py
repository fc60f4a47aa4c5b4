"""docs/methods.md says what the code of the methods is."""

from __future__ import annotations

import re
from typing import Any

import pytest

from infoae.config import Config, Weights
from infoae.config.methods import METHODS, methods_of
from infoae.methods import registry
from tests.helpers.methods import tiny_config_of
from tests.helpers.paths import ROOT

PAGE = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")


def rows(text: str) -> list[list[str]]:
    """The cells of every row that begins with a word in code, or with a link of one."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\| \[?`.*$", text, re.MULTILINE)
    ]


def name(cell: str) -> str:
    return cell.split("`")[1]


def test_every_setting_that_not_all_methods_have_is_in_the_table_with_its_methods_and_default() -> None:
    table = PAGE.partition("## Settings by method")[2]
    listed = {name(row[0]): row for row in rows(table)}
    heading = re.findall(r"^\| setting .*$", table, re.MULTILINE)[0].split("|")[2 : 2 + len(METHODS)]
    assert [cell.strip() for cell in heading] == list(METHODS)

    def check(section: Any, prefix: str) -> None:
        for key in type(section).model_fields:
            dotted, value = prefix + key, getattr(section, key)
            having = methods_of(dotted)
            if prefix and methods_of(prefix[:-1]) != METHODS:
                assert dotted not in listed  # the section as a whole is
            elif having == METHODS:
                assert dotted not in listed
            else:
                cells = listed.pop(dotted)
                assert tuple(m for m, dot in zip(METHODS, cells[1:], strict=False) if dot) == having, dotted
                shown = "" if value is None or hasattr(value, "model_fields_set") else str(value)
                assert cells[1 + len(METHODS)] == shown, dotted
            if hasattr(value, "model_fields_set"):
                check(value, f"{dotted}.")

    check(Config(), "")
    assert not listed


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_section_with_its_losses_and_what_it_can(method: str) -> None:
    section = PAGE.partition(f"\n## {method}\n")[2].partition("\n## ")[0]
    losses = [loss for loss in Weights.model_fields if method in methods_of(f"objective.weights.{loss}")]
    if method != "infoae":  # whose losses are in method.md
        assert {name(row[0]) for row in rows(section)} == set(losses)
    model = registry.METHODS[method].build(tiny_config_of(method))
    reconstructs, draws = next(row[3:5] for row in rows(PAGE) if name(row[0]) == method)
    assert (reconstructs, draws) == tuple(
        "no" if reason else "yes" for reason in (model.no_decoder, model.no_generator)
    )
    bundle = section.partition("**Bundle**: ")[2]
    assert ("No decoder" in bundle) == (model.no_decoder is not None)
    assert ("No generator" in bundle) == (model.no_generator is not None)
