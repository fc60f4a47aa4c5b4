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

# The slow tests too, which CI runs; not those that take minutes each: `just test -m long`
test-all *options: setup
    .venv/bin/pytest -n auto --dist loadgroup -m 'not long and not gpu' {{options}}

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

# Run the speed benchmarks on a quiet machine, a JSON each in a folder; with a run's folder also those of a run
bench folder="benchmarks/results" run="": setup
    #!/usr/bin/env bash
    set -euo pipefail
    folder={{quote(folder)}} run={{quote(run)}}
    mkdir -p "$folder"
    .venv/bin/python benchmarks/train.py --json "$folder/train.json"
    .venv/bin/python benchmarks/scaling.py --out "$folder/scaling.json"
    .venv/bin/python benchmarks/step.py ${run:+--run "$run"} --busy --profile --json "$folder/step.json"
    .venv/bin/python benchmarks/cost.py ${run:+--run "$run"} --json "$folder/cost.json"
    .venv/bin/python benchmarks/neighbour_search.py --widths 50 --out "$folder/neighbour-search.json"
    [ -z "$run" ] || .venv/bin/python benchmarks/classify.py "$run" --out "$folder"
    [ -z "$run" ] || .venv/bin/python benchmarks/classify.py "$run" --latency --out "$folder"

# Fail if a ratio of speeds is lower than in docs/results/ratios.json; --write makes that file
bench-check *options: setup
    .venv/bin/python benchmarks/check.py {{options}}
