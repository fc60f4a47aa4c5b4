"""Folders of the repository."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # also where processes find the package, installed or not
TEST_IMAGES = ROOT / "infoae/data/mnist/t10k-images-idx3-ubyte.gz"
