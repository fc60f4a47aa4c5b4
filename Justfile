# just sets everything up by itself; pip install rust-just brings the command.
python := env("PYTHON", "python3")

# List the recipes
default:
    @just --list

# Install into .venv
setup:
    {{python}} -m venv .venv
    .venv/bin/pip install -q -e '.[dev]'

# Train on MNIST
train *options: setup
    .venv/bin/infoae train {{options}}

# The fast tests, on all cores; those that start Ray on one of them, one after the other
test *options: setup
    .venv/bin/pytest -n auto --dist loadgroup {{options}}

# The slow tests too
test-all *options: setup
    .venv/bin/pytest -m 'not gpu' {{options}}

# The tests that need a CUDA GPU
test-gpu *options: setup
    .venv/bin/pytest -m gpu {{options}}

# Format, lint and types
check: setup
    .venv/bin/ruff format --check .
    .venv/bin/ruff check .
    .venv/bin/mypy

# All that CI does
ci:
    .ci/run

# Print speed ratios of training
bench: setup
    .venv/bin/python benchmarks/train.py
