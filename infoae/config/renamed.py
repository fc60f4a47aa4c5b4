"""Keys of version 0.1 that have another name now: files and commands of then are still read.

`docs/config-keys.md` has the same table for people.
"""

from __future__ import annotations

from typing import Any

RENAMED = {
    "information.pairs": "objective.pairs",
    "information.neighbours": "neighbours.count",
    "information.merging_neighbours": "neighbours.merging_count",
    "information.blur": "neighbours.blur",
    "information.search": "neighbours.search",
    "information.distortion": "neighbours.distortion",
    "information.merging": "pseudo_labels.merging",
    "information.agreement": "pseudo_labels.agreement",
    "information.certain_links": "pseudo_labels.anchor_hops",
    "information.agreement_walks": "pseudo_labels.propagation_agreement",
    "information.settle_every": "pseudo_labels.refresh_every",
    "information.epochs": "stages.mutual_information_epochs",
    "information.consensus_epochs": "stages.pseudo_label_epochs",
    "objective.weights.information": "objective.weights.mutual_information",
    "objective.weights.consensus": "objective.weights.pseudo_label",
    "train.game_part": "train.adversarial_fraction",
    "train.least_steps": "train.min_steps_per_epoch",
}
"""Old dotted key -> new."""

_VALUES = {
    ("information.merging", "information"): "mutual_information",
    ("information.merging", "cut"): "distinctness",
}


def current_key(key: str) -> str:
    """Return the name that a dotted key has now."""
    return RENAMED.get(key, key)


def current_value(key: str, value: Any) -> Any:
    """Return the value that has the meaning now of `value` under the old or current dotted `key`."""
    return _VALUES.get((key, value), value) if isinstance(value, str) else value


def rename(tree: dict[Any, Any]) -> list[str]:
    """Give the keys in a tree of sections their current names, in place; return the old ones, dotted.

    Where a tree has both names of a key, the current one counts.
    """
    found: list[str] = []
    for old, new in RENAMED.items():
        *sections, last = old.split(".")
        parent = _inside(tree, sections)
        if parent is None or last not in parent:
            continue
        found.append(old)
        value = current_value(old, parent.pop(last))
        *sections, last = new.split(".")
        target: Any = tree
        for section in sections:
            target = target.setdefault(section, {})
        if isinstance(target, dict):
            target.setdefault(last, value)
    if found and tree.get("information") == {}:
        del tree["information"]
    return found


def _inside(tree: dict[Any, Any], sections: list[str]) -> dict[Any, Any] | None:
    inside: Any = tree
    for section in sections:
        inside = inside.get(section) if isinstance(inside, dict) else None
    return inside if isinstance(inside, dict) else None
