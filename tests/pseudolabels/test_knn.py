"""Vectors of greatest cosine, exactly and by faiss."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.neighbours import directions_of
from infoae import data
from infoae.config import Config, Data, Neighbours, NeighbourSearch, recipes
from infoae.errors import UsageError
from infoae.pseudolabels import knn
from tests.helpers.paths import ROOT


def found(directions: torch.Tensor, count: int, search: NeighbourSearch) -> torch.Tensor:
    return torch.cat([indices for _, indices in knn.closest(directions, count, search)])


@pytest.fixture
def directions(monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """Clouds of unit vectors, two of them equal, searched in blocks that do not divide their number."""
    monkeypatch.setattr(knn, "FEW", 100)
    monkeypatch.setattr(knn, "ROWS", 700)
    random = torch.Generator().manual_seed(0)
    centres = torch.randn(30, 8, generator=random).repeat(100, 1)
    vectors = F.normalize(centres + 0.5 * torch.randn(3000, 8, generator=random))
    vectors[5] = vectors[4]
    return vectors


@pytest.mark.parametrize("search", ["exact", "approximate"])
def test_the_closest_are_those_of_a_sort_by_cosine(directions: torch.Tensor, search: NeighbourSearch) -> None:
    cosine = directions.double() @ directions.double().T
    cosine.fill_diagonal_(-1)
    expected = cosine.argsort(1, descending=True)[:, :10]
    indices = found(directions, 10, search)
    assert (indices != torch.arange(3000)[:, None]).all()
    assert all(len(set(row)) == 10 for row in indices.tolist())
    hits = (indices[:, :, None] == expected[:, None, :]).any(2).float().mean()
    assert hits > (0.999 if search == "exact" else 0.95)
    assert (cosine.gather(1, indices).diff(dim=1) <= 1e-6).all()
    assert indices[4, 0] == 5
    assert indices[5, 0] == 4


@pytest.mark.parametrize(
    ("search", "number", "expected", "words"),
    [
        ("auto", 100_000, "exact", "by comparing all with all (up to 100,000)"),
        ("auto", 100_001, "approximate", "by faiss (more than 100,000)"),
        ("exact", 10**7, "exact", "by comparing all with all (neighbours.search exact)"),
        ("approximate", 30_000, "exact", "by comparing all with all (up to 30,000)"),
        ("approximate", 30_001, "approximate", "by faiss (neighbours.search approximate)"),
    ],
)
def test_how_is_searched_follows_from_setting_and_number(
    search: NeighbourSearch, number: int, expected: str, words: str
) -> None:
    assert knn.resolved(search, number) == expected
    assert knn.described(search, number) == words


def test_auto_compares_all_up_to_its_bound_and_asks_faiss_beyond(
    directions: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One vector more, and faiss is needed, which is not there."""
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(knn, "MANY", 3000)
    assert torch.equal(found(directions, 3, "auto"), found(directions, 3, "exact"))
    with pytest.raises(ImportError):
        found(torch.cat([directions, directions[:1]]), 3, "auto")


def test_no_other_search_is_taken() -> None:
    assert Config().neighbours.search == "auto"
    with pytest.raises(UsageError, match=r"neighbours\.search.*'auto', 'exact' or 'approximate'"):
        recipes.load("mnist", ["neighbours.search=fast"])


def test_the_bound_that_is_documented_is_the_one_that_holds() -> None:
    page = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    for text in (Neighbours.model_fields["search"].description or "", page):
        assert f"up to {knn.MANY:,} images" in " ".join(text.split())


@pytest.mark.parametrize("components", [50, 256])
def test_faiss_finds_nearly_all_of_the_nearest_five_digits(components: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 12,000 images of MNIST, by as many components as neighbours are compared by, and by many."""
    monkeypatch.setattr(knn, "FEW", 0)
    directions = directions_of(np.asarray(data.load(Data(limit=12_000), "train").images), components)
    cosine = directions @ directions.T
    cosine.fill_diagonal_(-1)
    nearest = cosine.topk(5).indices
    hits = (found(directions, 100, "approximate")[:, :5] == nearest).float().mean()
    assert hits >= 0.98


def test_what_is_far_from_all_finds_its_nearest_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer than are asked for lie in the only list that is looked into; nothing is found twice or made up."""
    monkeypatch.setattr(knn, "FEW", 0)
    monkeypatch.setattr(knn, "LOOKED_INTO", 1)
    random = torch.Generator().manual_seed(0)
    many = torch.tensor([1.0, 0, 0]) + 0.1 * torch.randn(1000, 3, generator=random)
    few = torch.tensor([-1.0, 0, 0]) + 0.01 * torch.randn(3, 3, generator=random)
    directions = F.normalize(torch.cat([many, few]))
    expected = directions[1000:] @ directions.T
    expected[torch.arange(3), torch.arange(1000, 1003)] = -torch.inf
    assert torch.equal(found(directions, 9, "approximate")[1000:], expected.topk(9).indices)


def test_among_more_equal_vectors_than_are_asked_for_none_finds_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "FEW", 0)
    directions = F.normalize(torch.randn(500, 6, generator=torch.Generator().manual_seed(0)))
    directions[:100] = directions[0]
    indices = found(directions, 9, "approximate")
    assert indices.shape == (500, 9)
    assert (indices != torch.arange(500)[:, None]).all()
    assert (indices[:100] < 100).all()
