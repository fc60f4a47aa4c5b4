"""Data sets in memory or in shards on disk. No torch here: the production half of infoae shares this package."""

from infoae.data.datasets import ImageSet, ShardSet, Split, load, load_training

__all__ = ["ImageSet", "ShardSet", "Split", "load", "load_training"]
