"""Tests of infoae.sorting."""
