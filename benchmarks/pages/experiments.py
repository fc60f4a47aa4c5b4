"""Tables of single experiments: sweeps, several nodes, few labels, unknown or rare categories, the score."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.pages.results import MEASURES, Results, percent, shown, table, with_deviation


def four_nodes(results: Results) -> list[str]:
    """One run through a lost node and a stop, against one process."""
    found = results.json("four-nodes.json")
    one, four = found["one_process"], found["four_nodes"]
    every = one["accuracy_of_all_seeds"]
    events = f"{four['restarts_before']} restart, stopped at step {four['stopped_at']:,} of {four['step']:,}"
    rows = [
        ["one process, ten seeds", f"{with_deviation(every)}, worst {percent(every['worst'])}", "", ""],
        ["one process, seed 150", *(percent(one["accuracy"]), f"{one['nmi']:.3f}", percent(one["recovered"]))],
        [
            f"four nodes, seed 150; {events}; {four['seconds']:.0f} s of training",
            *(percent(four["accuracy"]), f"{four['nmi']:.3f}", percent(four["recovered"])),
        ],
        ["the same, exported and classified", percent(four["accuracy_of_exported_labels"]), "", ""],
    ]
    return results.source("four-nodes") + table(["", "accuracy", "NMI", "recovered"], rows)


def kills(results: Results) -> list[str]:
    """Each verb killed before each of its changes to the file system."""
    rows = [
        [f"`{verb}`", str(found["changes"]), str(found["tried"]), str(found["tried"] - len(found["wrong"]))]
        for verb, found in results.json("kills.json").items()
    ]
    return results.source("kills") + table(["verb", "changes", "killed before", "went on"], rows)


def mutations(results: Results) -> list[str]:
    """Damaged files of each kind, by what the kinds are for."""
    groups: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for name, found in results.json("mutations.json")["kinds"].items():
        groups.setdefault(found["group"], []).append((name, found))
    rows = []
    for group, kinds in groups.items():
        tried = sum(found["tried"] for _, found in kinds)
        wrong = sum(len(found["wrong"]) for _, found in kinds)
        rows.append([group, ", ".join(f"`{name}`" for name, _ in kinds), f"{tried:,}", f"{tried - wrong:,}"])
    return results.source("mutations") + table(["of", "kinds", "files", "held"], rows)


def fuzzing(results: Results) -> list[str]:
    """Each parser under a fuzzer."""
    rows = [
        [f"`{parser}`", str(found["seconds"]), f"{found['files']:,}", str(len(found["findings"]))]
        for parser, found in results.json("fuzzing.json").items()
    ]
    return results.source("fuzzing") + table(["parser", "seconds", "files", "findings"], rows)


def _trials(sweep: dict[str, Any]) -> list[dict[str, Any]]:
    """A sweep's trials, the best first; the score after the last epoch is that of the checkpoint that would be used."""
    trials = [trial | {"score": trial["epochs"][-1]["score"]} for trial in sweep["trials"]]
    return sorted(trials, key=lambda trial: -trial["score"])


def sweep(results: Results) -> list[str]:
    """The score over alpha, a row each, and gamma, a column each."""
    trials = [
        trial["values"] | {"score": trial["score"]} for trial in _trials(results.json("tune-neighbours/sweep.json"))
    ]
    alphas, gammas = (sorted({trial[name] for trial in trials}) for name in ("alpha", "gamma"))
    scores = {(trial["alpha"], trial["gamma"]): f"{trial['score']:.3f}" for trial in trials}
    rows = [[f"alpha {alpha:g}", *(scores[alpha, gamma] for gamma in gammas)] for alpha in alphas]
    return results.source("sweep") + table(["", *(f"gamma {gamma:g}" for gamma in gammas)], rows)


def paper_sweep(results: Results) -> list[str]:
    """The score over what the paper leaves open."""
    keys = ["latent", "batch", "distance", "fakes", "critics"]
    rows = [
        [*(str(trial["values"][key]) for key in keys), f"{trial['score']:.3f}"]
        for trial in _trials(results.json("tune-paper/sweep.json"))
    ]
    return results.source("paper-sweep") + table([*keys, "score (nats)"], rows)


def few_labels(results: Results) -> list[str]:
    """What a handful of labels is worth."""
    found = results.json("few-labels/few_labels.json")

    def column(name: str) -> list[str]:
        pairs = zip(found[name]["mean"], found[name]["deviation"], strict=True)
        return [f"{percent(mean)} (± {100 * deviation:.2f})" for mean, deviation in pairs]

    rows = zip(map(str, found["labels_per_class"]), column("naming"), column("probe"), strict=True)
    return results.source("few-labels") + table(["labels a class", "`infoae name`", "linear probe"], rows)


def neighbours(results: Results) -> list[str]:
    """What the search for neighbours costs."""
    header = [
        "images",
        "candidates, exact",
        "candidates, faiss",
        "of the hundred found",
        "whole graph, faiss",
        "memory",
    ]
    rows = [
        [
            f"{size['images']:,}",
            f"{size['candidates_exact_seconds_extrapolated']:,.0f} s",
            f"{size['candidates_faiss_seconds']:,.0f} s",
            f"{100 * size['recall_of_100']:.1f} %",
            f"{size['graph_with_faiss_seconds']:,.0f} s",
            f"{size['peak_memory_gib']:.1f} GiB",
        ]
        for size in results.json("neighbours.json")["sizes"]
    ]
    return results.source("neighbours") + table(header, rows)


def neighbour_search(results: Results) -> list[str]:
    """What the search for the nearest vectors costs, and how many it finds."""
    found = results.json("neighbour-search.json")
    searches = {"exact": "all with all", "lists": "lists", "graph": "graph"}
    header = ["vectors", "number", "width", *searches.values()]
    header += [f"of the nearest {count}, {searches[name]}" for count in (5, 100) for name in ("lists", "graph")]
    rows = [
        [row["kind"], f"{row['vectors']:,}", str(row["width"])]
        + [f"{row['seconds'][name]:,.0f} s" for name in searches]
        + [f"{100 * row[f'found_of_{count}'][name]:.1f} %" for count in (5, 100) for name in ("lists", "graph")]
        for row in found["rows"]
    ]
    rows += [
        ["made", "seconds grow with its power", width, *(f"{power[name]:.2f}" for name in searches), "", "", "", ""]
        for width, power in found["powers"].items()
    ]
    return results.source("neighbour-search") + table(header, rows)


def auto(results: Results) -> list[str]:
    """The number of categories, when it is not told."""
    found, curve = results.json("auto/evaluation.json"), results.json("auto/categories.json")
    measures = found | found["generated"]
    keys = [key for key in MEASURES if key in measures]
    row = [str(curve["categories"]), *(shown(key, measures[key]) for key in keys)]
    return results.source("auto") + table(["categories found", *(MEASURES[key] for key in keys)], [row])


def unbalanced(name: str) -> Callable[[Results], list[str]]:
    """Rare digits, with one merging and several priors."""

    def made(results: Results) -> list[str]:
        found = results.json(f"{name}.json")
        header = ["prior", "accuracy, digits thinned alike", "all test images", "recovered", "diversity, pixels"]
        rows = [
            [
                prior,
                *(percent(entry[key]) for key in ("accuracy_thinned", "accuracy", "recovered")),
                f"{entry['diversity_pixels']:.3f}",
                f"{entry['frechet_distance_thinned']:.1f}",
            ]
            for prior, entry in found.items()
            if isinstance(entry, dict)
        ]
        return results.source(name) + table([*header, "Fréchet distance, thinned"], rows)

    return made


def choice(results: Results) -> list[str]:
    """Which recipe is chosen without labels, and which is best with them."""
    header = ["pictures", "seed", "chosen", "accuracy of its trial", "best", "regret", "Spearman"]
    rows = []
    for entry in results.json("choice.json")["results"]:
        accuracy = {each["candidate"]: each["accuracy"] for each in entry["candidates"]}
        chosen, best = (entry[key].replace("augment.kind=", "") for key in ("chosen", "best"))
        rank = "" if entry["spearman"] is None else f"{entry['spearman']:.2f}"
        regret = f"{100 * entry['regret']:.1f} points"
        rows.append([entry["set"], str(entry["seed"]), chosen, percent(accuracy[entry["chosen"]]), best, regret, rank])
    return results.source("choice") + table(header, rows)


def simple_clusterings(data: str) -> Callable[[Results], list[str]]:
    """What k-means and Gaussian mixtures find, with the deviation over seeds."""

    def made(results: Results) -> list[str]:
        name = f"simple-clusterings-{data}"
        found = results.json(f"{name}.json")
        rows = []
        for entry in found["clusterings"]:
            deviation = 100 * statistics.stdev(each["accuracy"] for each in entry["of_each"])
            rows.append(
                [
                    f"{entry['method']} on {entry['features']}",
                    f"{percent(entry['accuracy'])} (± {deviation:.2f})",
                    percent(entry["many_to_one"]),
                    f"{entry['nmi']:.3f}",
                    f"{entry['seconds_features']:.0f} + {entry['seconds']:.1f} s",
                ]
            )
        fitted = f"fitted on {found['images_fitted']:,} images"
        return results.source(name) + table([fitted, "accuracy", "many-to-one", "NMI", "features + fit"], rows)

    return made


def score(results: Results) -> list[str]:
    """How the score ranks runs: all of them, and each kind."""
    found = results.json("score.json")
    kinds: dict[str, list[dict[str, Any]]] = {"all": found["of_each"]}
    for run in found["of_each"]:
        kinds.setdefault(run["run"].rpartition("-")[0], []).append(run)
    rows = []
    for kind, runs in kinds.items():
        correlation = _spearman([run["score"] for run in runs], [run["accuracy"] for run in runs])
        chosen = max(runs, key=lambda run: run["score"])["accuracy"]
        regret = max(run["accuracy"] for run in runs) - chosen
        rows.append([kind, str(len(runs)), f"{correlation:.2f}", f"{100 * regret:.2f} points"])
    return results.source("score") + table(["runs", "number", "Spearman", "regret in accuracy"], rows)


def _spearman(first: Sequence[float], second: Sequence[float]) -> float:
    return statistics.correlation(_ranks(first), _ranks(second))


def _ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1; those of equal values are their mean."""
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) + 1) / 2 for value in values]


def clicks(results: Results) -> list[str]:
    """What clicks on the page of each sort are worth."""
    rows = []
    for name in ("mnist", "cifar10", "spoken-digits"):
        found = results.json(f"clicks/{name}.json")
        clicked = f"{found['parts']} parts, {found['examples']} pictures"
        accuracy = [percent(found["accuracy"]), percent(found["corrected_accuracy"])]
        rows.append([f"`{found['command']}`", f"{found['pictures']:,}", accuracy[0], clicked, accuracy[1]])
    return results.source("clicks") + table(["sorted by", "pictures", "accuracy", "ten clicks", "accuracy after"], rows)


def sorting(results: Results) -> list[str]:
    """Stages of a sort of photographs, beside Pillow, and a second command once one in a hundred is new."""
    found = results.json("sorting.json")
    count, seconds = found["count"], found["seconds_per_1000"]
    names = {"preparing": "preparing", "labelling": "labelling", "gallery": "gallery", "quality": "`--quality`"}
    rows = []
    for name, shown_as in names.items():
        took = seconds[name]["clock"] * count / 1000
        ratio = found["ratio_to_pillow"][name]["cpu"]
        quarter, whole = found["peak_mib"][name]
        rows.append([shown_as, f"{took:.0f} s", f"{ratio:.2f}", f"{quarter} / {whole} MiB"])
    again = seconds["second"]["clock"] * count / 1000
    share = again / found["seconds_in_all"]["clock"]
    rows.append(["all", f"{found['seconds_in_all']['clock']:.0f} s", "", ""])
    new = f"{again:.1f} s, {100 * share:.1f} % of that"
    rows.append(["again, 1 % of them new", new, "", f"{found['peak_mib']['second']} MiB"])
    header = [
        f"{count:,} photographs",
        "time",
        "CPU time to Pillow's reading",
        f"peak of memory with {count // 4:,} / all",
    ]
    return results.source("sorting") + table(header, rows)
