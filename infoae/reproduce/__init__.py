"""Recipes on many seeds: a result file a seed, their summary, and tables of several recipes."""
