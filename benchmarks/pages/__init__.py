"""Write the tables of README.md and docs/ from the committed results, or check that they still say the same.

    python -m benchmarks.pages            # rewrites, in place, what stands between the markers
    python -m benchmarks.pages --check    # a line for each table that is stale; exit 1 if there is any

A table stands between `<!-- table: NAME -->` and `<!-- end -->`. Its figures come from docs/results/*.json; command,
hardware and commit of each from docs/results/sources.json. The table of settings comes from the source of
infoae/config. Nothing of infoae is imported, so that this runs where PyYAML alone is installed.
"""
