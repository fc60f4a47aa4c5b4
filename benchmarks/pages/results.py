"""The committed results, and how one figure, command or table of them is written."""

from __future__ import annotations

import json
import statistics
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

WIDTH = 116  # of a line; the pages allow 120
INLINE = 90  # characters of a command that may stand within a sentence

MEASURES = {
    "accuracy": "accuracy",
    "nmi": "NMI",
    "score": "score (nats)",
    "recovered": "recovered",
    "diversity_pixels": "diversity, pixels",
    "diversity_latent": "diversity, latent",
    "frechet_distance": "Fréchet distance",
    "seconds_training": "training (s)",
}


class Results:
    """The committed results below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sources: dict[str, dict[str, Any]] = self.json("sources.json")

    def json(self, name: str) -> Any:
        """Return one result file."""
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    def seed(self, name: str, seed: int) -> dict[str, Any]:
        """Return one seed of `infoae reproduce`, its generator's measures beside the others."""
        result: dict[str, Any] = self.json(f"{name}/seed-{seed}.json")
        result.update(result["generated"])
        return result

    def summary(self, name: str) -> dict[str, Any]:
        """Return the summary of `infoae reproduce`; its command must be the one that sources.json gives."""
        summary: dict[str, Any] = self.json(f"{name}/summary.json")
        given, kept = self.sources[name]["command"], summary["command"]
        if given != kept:
            raise SystemExit(f"docs/results/sources.json says {given!r} of {name}, its summary.json {kept!r}")
        return summary

    def source(self, *names: str) -> list[str]:
        """Return how each result was made: its command, hardware, commit and file."""
        lines = []
        for name in names:
            entry = self.sources[name]
            command, file = entry["command"], entry["files"][0]
            facts = f"{entry['hardware']}{self._environment(name)}; commit {entry['commit']}"
            facts += f"; [{Path(file).name}](results/{file})."
            if len(command) > INLINE:
                lines += ["```bash", *wrapped_command(command), "```", "", *wrapped(f"On {facts}"), ""]
            else:
                lines += [*wrapped(f"`{command}` on {facts}"), ""]
        return lines

    def _environment(self, name: str) -> str:
        """What the runs themselves wrote down about precision and versions."""
        paths = sorted((self.folder / name).glob("seed-*.json"))
        environments = [json.loads(path.read_text(encoding="utf-8"))["environment"] for path in paths]
        if not environments:
            return ""
        precisions = sorted({entry["precision"] for entry in environments})
        torch = sorted({entry["versions"]["torch"] for entry in environments})
        return f"; {' and '.join(precisions)}, torch {' and '.join(torch)}"


def wrapped_command(command: str) -> list[str]:
    """Return a command in lines that a shell joins again."""
    words = command.split(" --")
    lines = [words[0]]
    for word in words[1:]:
        option = f"--{word}"
        if len(lines[-1]) + len(option) > WIDTH:
            lines[-1] += " \\"
            lines.append(f"    {option}")
        else:
            lines[-1] += f" {option}"
    return lines


def wrapped(text: str) -> list[str]:
    """Return prose in lines of at most WIDTH characters; links stay whole."""
    return textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table."""
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def percent(value: float) -> str:
    """Return a share as a percentage."""
    return f"{100 * value:.2f} %"


def shown(key: str, value: float) -> str:
    """Return one measure of a run as tables have it."""
    if key in ("accuracy", "many_to_one", "recovered"):
        return percent(value)
    return {"seconds_training": f"{value:,.0f}", "frechet_distance": f"{value:.1f}"}.get(key, f"{value:.3f}")


def spread(ratios: Sequence[float]) -> str:
    """Return median, smallest and largest of some rounds' ratios."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def milliseconds(seconds: float) -> str:
    """Return a time in milliseconds with two significant digits, more only where it has more before the point."""
    value = 1000 * seconds
    return f"{value:.0f} ms" if value >= 10 else f"{value:.2g} ms"


def with_deviation(measure: dict[str, float]) -> str:
    """Return a mean accuracy with its deviation over seeds."""
    return f"{percent(measure['mean'])} (± {100 * measure['deviation']:.2f})"
