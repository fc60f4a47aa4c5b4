"""Tests of placing pictures in folders."""
