"""What ten clicks on the page of `infoae sort` are worth: accuracy before and after, where file names tell the classes.

    infoae sort FOLDER --categories N
    python benchmarks/clicks.py FOLDER-sorted '([^/]+)-[^/]*$' [--clicks 10] [--out clicks.json]

The pattern finds the class in a path, as its first group. In place of a person, labels choose the clicks, seeing what
the page shows. Rows are matched to classes one-to-one. A part of ten pictures or more, of whose pictures on the page
more are of another row than of its own, is put into that row, the largest gain first. Clicks that are left tell the
category of doubtful pictures that are wrong, the most doubtful first. `infoae sort --corrections` then corrects.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from infoae import metrics
from infoae.files import write_json

SMALLEST = 10
"""Pictures of a part that is worth a click."""
UNREADABLE = 3
"""Exit code of infoae sort where pictures could not be read."""


def labels(sorted_folder: Path, pattern: str) -> tuple[dict[str, int], dict[str, str]]:
    """Return the category and the class of each picture that could be read, by its path."""
    with (sorted_folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        categories = {row["path"]: int(row["category"]) for row in csv.DictReader(file) if not row["error"]}
    classes = {}
    for path in categories:
        if (found := re.search(pattern, path)) is None:
            raise SystemExit(f"{pattern} finds no class in {path}")
        classes[path] = found[1]
    return categories, classes


def matched(categories: dict[str, int], classes: dict[str, str]) -> tuple[dict[int, str], float]:
    """Return the class of each category, matched one-to-one, and the share of the pictures that are in theirs."""
    names = sorted(set(classes.values()))
    numbers = np.array([names.index(classes[path]) for path in categories])
    found = np.array(list(categories.values()))
    confusion = metrics.confusion_matrix(found, numbers, int(found.max()) + 1, len(names))
    matching = metrics.match_categories(confusion)
    return {category: names[label] for category, label in matching.items()}, metrics.accuracy(confusion, matching)


def clicks(page: dict[str, Any], classes: dict[str, str], class_of: dict[int, str], count: int) -> dict[str, Any]:
    """Return what one who knows the classes says of the page, in `count` clicks: parts and examples."""
    row_of = {name: category for category, name in class_of.items()}
    gains = []
    for row in page["rows"]:
        for part in row["parts"]:
            seen = Counter(classes[page["paths"][index]] for index in part["typical"])
            (name, most), *_ = seen.most_common()
            share = (most - seen[class_of.get(row["category"], "")]) / seen.total()
            if part["size"] >= SMALLEST and share > 0 and name in row_of:
                gains.append((share * part["size"], part["over"], row_of[name]))
    parts = {over: category for _, over, category in sorted(gains, reverse=True)[:count]}
    doubtful = [index for row in page["rows"] for index in row["doubtful"]]
    doubtful.sort(key=lambda index: page["probabilities"][index][0] - page["probabilities"][index][1])
    examples: dict[str, int] = {}
    for index in doubtful:
        path = page["paths"][index]
        if classes[path] not in (class_of.get(page["categories"][index][0]), *set(classes.values()) - set(row_of)):
            examples[path] = row_of[classes[path]]
    return {"parts": parts, "examples": dict(list(examples.items())[: count - len(parts)])}


def main(arguments: list[str] | None = None) -> None:
    """Click, correct, compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sorted", type=Path, help="result of infoae sort")
    parser.add_argument("pattern", help="regular expression whose first group is the class in a path")
    parser.add_argument("--clicks", type=int, default=10)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args(arguments)
    state = json.loads((asked.sorted / "sort.json").read_text(encoding="utf-8"))
    page = json.loads((asked.sorted / "gallery.html").read_text("utf-8").split('id="data">')[1].split("</script>")[0])
    categories, classes = labels(asked.sorted, asked.pattern)
    class_of, before = matched(categories, classes)
    said = clicks(page, classes, class_of, asked.clicks)
    head = {"run": page["run"], "step": page["step"], "num_categories": page["num_categories"]}
    file = asked.sorted.with_name(f"{asked.sorted.name}-clicks.json")
    write_json(file, head | said)
    command = ["infoae", "sort", state["photos"], "--out", str(asked.sorted), "--corrections", str(file)]
    started = time.perf_counter()
    if subprocess.run(command, check=False).returncode not in (0, UNREADABLE):
        raise SystemExit("the correction failed")
    seconds = time.perf_counter() - started
    after = matched(*labels(asked.sorted, asked.pattern))[1]
    options = [
        f"--{name} {value:g}" if name == "minutes" else f"--{name} {value}"
        for name, value in state["asked"].items()
        if value is not None
    ]
    result = {
        "command": " ".join(["infoae sort", Path(state["photos"]).name, *options]),
        "pictures": len(categories),
        "categories": page["num_categories"],
        "accuracy": round(before, 4),
        "parts": len(said["parts"]),
        "examples": len(said["examples"]),
        "corrected_accuracy": round(after, 4),
        "seconds": round(seconds, 1),
    }
    print(json.dumps(result, indent=2))
    if asked.out is not None:
        write_json(asked.out, result)


if __name__ == "__main__":
    main()
