"""Folders and files of the repository."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # also where processes find the package, installed or not
TEST_IMAGES = ROOT / "infoae/data/mnist/t10k-images-idx3-ubyte.gz"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
