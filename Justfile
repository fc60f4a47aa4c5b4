# just sets everything up by itself; pip install rust-just brings the command.
python := env("PYTHON", "python3")

# List the recipes
default:
    @just --list

# Install what requirements-dev.lock pins into .venv; done again only when it, pyproject.toml or Python changed
setup:
    #!/usr/bin/env bash
    set -euo pipefail
    wanted=$({ {{python}} --version; pwd; cat pyproject.toml requirements-dev.lock; } | sha256sum)
    [[ $(cat .venv/installed 2> /dev/null) != "$wanted" ]] || exit 0
    {{python}} -m venv .venv
    .venv/bin/pip install -q -r requirements-dev.lock
    .venv/bin/pip install -q --no-deps -e .
    echo "$wanted" > .venv/installed

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

# Format, lint, types, directions of imports, tables of the pages
check: setup
    .venv/bin/ruff format --check .
    .venv/bin/ruff check .
    .venv/bin/mypy
    .venv/bin/mypy docs/hooks.py
    .venv/bin/lint-imports
    .venv/bin/python -m benchmarks.pages --check

# Write the tables of the pages anew from docs/results
pages: setup
    .venv/bin/python -m benchmarks.pages

# Build the documentation site into site/; a dead link fails
docs: setup
    NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

# The site on a port of this machine, built again at every change
docs-serve *options: setup
    NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs serve {{options}}

# Run the checks before each commit
hooks: setup
    .venv/bin/pre-commit install

# Make requirements-dev.lock anew from pyproject.toml; pins stay where they fit, --upgrade takes the newest
lock *options: setup
    UV_CUSTOM_COMPILE_COMMAND='just lock' .venv/bin/uv pip compile pyproject.toml --extra dev --universal -q \
        --no-emit-index-url --no-emit-find-links --annotation-style line --output-file requirements-dev.lock {{options}}

# All that CI does, in a temporary clone of the last commit
ci:
    .ci/run

# Print speed ratios of training
bench: setup
    .venv/bin/python benchmarks/train.py
