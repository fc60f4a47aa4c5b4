"""Vectors of greatest cosine, exactly and by faiss."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from infoae import planning
from infoae.errors import UsageError
from infoae.pseudolabels import knn


def found(directions: torch.Tensor, count: int, exact: bool) -> torch.Tensor:
    return torch.cat([indices for _, indices in knn.closest(directions, count, exact)])


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


@pytest.mark.parametrize("exact", [True, False])
def test_the_closest_are_those_of_a_sort_by_cosine(directions: torch.Tensor, exact: bool) -> None:
    cosine = directions.double() @ directions.double().T
    cosine.fill_diagonal_(-1)
    expected = cosine.argsort(1, descending=True)[:, :10]
    indices = found(directions, 10, exact)
    assert (indices != torch.arange(3000)[:, None]).all()
    assert all(len(set(row)) == 10 for row in indices.tolist())
    hits = (indices[:, :, None] == expected[:, None, :]).any(2).float().mean()
    assert hits > (0.999 if exact else 0.95)
    assert (cosine.gather(1, indices).diff(dim=1) <= 1e-6).all()
    assert indices[4, 0] == 5
    assert indices[5, 0] == 4


def test_few_vectors_are_searched_exactly_and_need_no_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    vectors = F.normalize(torch.randn(50, 4, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(found(vectors, 3, exact=False), found(vectors, 3, exact=True))


def test_a_missing_faiss_is_said_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    wanted = ["objective.pairs=neighbours", "neighbours.search=approximate", "objective.weights.mutual_information=1"]
    with pytest.raises(UsageError, match="needs faiss"):
        planning.planned("smoke", wanted, tmp_path / "runs", "run")
    assert not (tmp_path / "runs").exists()


def test_a_missing_faiss_is_said(directions: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UsageError, match=r"needs faiss: pip install 'infoae\[faiss\]'"):
        found(directions, 3, exact=False)
