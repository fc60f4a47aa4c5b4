"""Recipes on many seeds: a result file a seed, and their summary."""
