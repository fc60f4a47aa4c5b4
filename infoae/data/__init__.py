"""Data sets as arrays in memory. No torch here: the production half of infoae shares this package."""

from infoae.data.datasets import ImageSet, load

__all__ = ["ImageSet", "load"]
