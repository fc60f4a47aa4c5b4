"""How long a request waits for its answer where threads share one model, as in a server: a closed loop.

Each thread asks, waits for the answer, and asks again. `python benchmarks/classify.py RUN --latency` runs it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoae.deploy import Classifier
from infoae.deploy.bundle import Bundle
from infoae.deploy.onnx_session import open_session

BATCHES, THREADS = (1, 32), (1, 8, 32)
REQUESTS = 2000
"""Of a round of one way, over its threads."""
FIGURES = ("p50", "p99", "mean")
Ask = Callable[[NDArray[np.uint8]], object]


def closed_loop(ask: Callable[[], object], num_threads: int, requests: int) -> NDArray[np.float64]:
    """Return the seconds of each request (num_threads, requests): each thread calls `ask` so often.

    All begin together, after one call each that is not counted.
    """
    begin = Barrier(num_threads)

    def client(_: int) -> list[float]:
        ask()
        begin.wait()
        seconds = []
        for _ in range(requests):
            start = time.perf_counter()
            ask()
            seconds.append(time.perf_counter() - start)
        return seconds

    with ThreadPoolExecutor(num_threads) as clients:
        return np.array(list(clients.map(client, range(num_threads))))


def measure(bundle: Bundle, images: NDArray[np.uint8], rounds: int, device: str) -> dict[str, Any]:
    """Return percentiles and mean of one Classifier and of onnxruntime's session alone, for each batch and threads.

    The ways take turns; a ratio is the median of the rounds' ratios, Classifier against session. In a closed loop the
    ratio of means is the inverse of that of answers a second. `images` are uint8 (N, C, H, W), N at least the largest
    batch.
    """
    classifier = Classifier(bundle, device)
    ways: dict[str, Ask] = {
        "classifier": classifier.classify,
        "session": partial(_run, open_session(bundle, "classifier", device)),
        "session of one thread": partial(_run, open_session(bundle, "classifier", device, num_threads=1)),
    }
    return {
        "requests": REQUESTS,
        "rows": [
            {"batch": batch, "threads": threads} | _compared(ways, images[:batch], threads, rounds)
            for batch in BATCHES
            for threads in THREADS
        ],
    }


def _run(session: Any, images: NDArray[np.uint8]) -> None:
    session.run(["probabilities", "latent"], {"images": images})


def _compared(ways: dict[str, Ask], images: NDArray[np.uint8], threads: int, rounds: int) -> dict[str, Any]:
    requests = -(-REQUESTS // threads)
    seconds = {name: np.empty((rounds, len(FIGURES))) for name in ways}
    for each in range(rounds):
        for name, ask in ways.items():
            found = closed_loop(partial(ask, images), threads, requests)
            seconds[name][each] = *np.percentile(found, (50, 99)), found.mean()
    row = {name: _named(np.median(1000 * values, axis=0), "_ms") for name, values in seconds.items()}
    own = seconds.pop("classifier")
    ratios = {f"classifier/{name}": _named(np.median(own / values, axis=0)) for name, values in seconds.items()}
    return row | ratios


def _named(values: NDArray[np.float64], unit: str = "") -> dict[str, float]:
    return {f"{figure}{unit}": round(float(value), 3) for figure, value in zip(FIGURES, values, strict=True)}


def lines(result: dict[str, Any]) -> list[str]:
    """Return the result in words, a line each."""
    told = []
    for row in result["rows"]:
        for name, value in row.items():
            if isinstance(value, dict):
                figures = "  ".join(f"{key.replace('_', ' ')} {figure:8.2f}" for key, figure in value.items())
                told.append(f"batch {row['batch']:>2}, {row['threads']:>2} threads, {name:<32} {figures}")
    return told
