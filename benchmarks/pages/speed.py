"""Tables of speed and size: several workers, classification, a GPU."""

from __future__ import annotations

from benchmarks.pages.results import Results, milliseconds, spread, table


def _scaled(results: Results, recipes: dict[str, str]) -> list[str]:
    header = ["recipe", "a step of one worker", "twice the batch", "the same batch", "two that do not talk"]
    rows = []
    for recipe, file in recipes.items():
        found = results.json(file)
        names = ("two, weak scaling", "two, strong scaling", "two that do not talk")
        seconds = f"{1000 * found['one worker']['seconds']:,.0f} ms"
        rows.append([f"`{recipe}`", seconds, *(spread(found[name]["ratios"]) for name in names)])
    return table(header, rows)


def scaling(results: Results) -> list[str]:
    """Two workers on one machine."""
    files = {"mnist": "scaling.json", "mnist-best": "scaling-best.json"}
    return results.source("scaling", "scaling-best") + _scaled(results, files)


def scaling_avx2(results: Results) -> list[str]:
    """The same before micro-batches."""
    return results.source("scaling-avx2") + _scaled(results, {"mnist": "scaling-avx2.json"})


def network(results: Results) -> list[str]:
    """The model of many GPUs: what a step's sums take, with micro-batches and as one batch."""
    small, whole = (results.json(name)["model"] for name in ("scaling.json", "scaling-avx2.json"))
    infiniband, ethernet = (key for key in small if key.startswith("NVLink"))
    rows = []
    for gpus, links, said in (
        ("8", infiniband, "NVLink 450 GB/s, 3 µs"),
        ("64", infiniband, "and InfiniBand 8 × 400 Gb/s a node, 5 µs"),
        ("512", infiniband, "the same"),
        ("64", ethernet, "and Ethernet 100 Gb/s a node, 30 µs"),
        ("512", ethernet, "the same"),
    ):
        pairs = [[entry[links][gpus][key] for entry in (small, whole)] for key in ("seconds", "compute_for_90_percent")]
        rows.append([gpus, said, *("; ".join(milliseconds(value) for value in pair) for pair in pairs)])
    return table(
        ["GPUs", "links", "sums a step: micro-batches; one batch", "compute a step for 90 % efficiency"],
        rows,
    )


def _classified(results: Results, named: dict[str, str]) -> list[list[str]]:
    ratios = {
        "`Classifier` against `session.run`": "classifier/session",
        "`.npz` end to end against `session.run`": "npz/session",
        "`Classifier` against torch eager": "classifier/torch_eager",
        "`Classifier` against torch.compile": "classifier/torch_compile",
        "int8 bundle against torch eager": "classifier_int8/torch_eager",
        "a folder of PNGs against decoding alone": "png/decoding",
    }
    found = [results.json(file) for file in named.values()]
    rows = [["`Classifier`, images a second", *(f"{entry['images_per_second']['classifier']:,.0f}" for entry in found)]]
    for label, key in ratios.items():
        rows.append([label, *(f"{entry['ratios'][key]:.2f}" if key in entry["ratios"] else "" for entry in found)])
    rows.append(["start to first label", *(f"{entry['seconds_to_first_label']:.2f} s" for entry in found)])
    return rows


def classify(results: Results) -> list[str]:
    """How fast a bundle labels images, on CPUs and on a GPU."""
    named = {
        "two CPU cores": "classify.json",
        "H100, batches of 256": "classify-h100-256.json",
        "H100, batches of 4,096": "classify-h100.json",
    }
    rows = _classified(results, named)
    million = results.json("classify.json")["million"]
    rows.append(["memory to label a million images", f"{million['peak_gib']:.2f} GiB", "", ""])
    return results.source("classify", "classify-h100-256", "classify-h100-4096") + table(["", *named], rows)


def latency(results: Results) -> list[str]:
    """How long requests wait where threads share one Classifier, beside onnxruntime's session alone."""
    figures = ("p50", "p99", "requests a second")
    header = ["images a request", "threads", *figures, *(f"{figure}, against a session" for figure in figures)]
    rows = []
    for row in results.json("latency.json")["rows"]:
        p50, p99, rate = row["classifier"].values()
        ratios = [f"{ratio:.2f}" for ratio in row["classifier/session"].values()]
        own = [f"{p50:.2f} ms", f"{p99:.2f} ms", f"{rate:,.0f}"]
        rows.append([str(row["batch"]), str(row["threads"]), *own, *ratios])
    return results.source("latency") + table(header, rows)


def train_h100(results: Results) -> list[str]:
    """Training on one GPU: what the benchmark printed."""
    text = (results.folder / "train-h100.txt").read_text(encoding="utf-8").rstrip("\n")
    return [*results.source("train-h100"), "```", *text.splitlines(), "```"]
