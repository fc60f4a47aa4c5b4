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

THREADS = (1, 8, 32)
REQUESTS = {1: 40_000, 32: 4_000}
"""Of each number of images, those of a round over all threads: each thread has to work for many turns of a core."""
FIGURES = ("p50_ms", "p99_ms", "requests_per_second")
Ask = Callable[[NDArray[np.uint8]], object]


def closed_loop(ask: Callable[[], object], num_threads: int, requests: int) -> tuple[NDArray[np.float64], float]:
    """Return the seconds of each request (num_threads, requests), and of all: each thread calls `ask` so often.

    All begin together, after one call each that is not counted.
    """
    begin = Barrier(num_threads, lambda: starts.append(time.perf_counter()))
    starts: list[float] = []

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
        seconds = np.array(list(clients.map(client, range(num_threads))))
    return seconds, time.perf_counter() - starts[0]


def measure(bundle: Bundle, images: NDArray[np.uint8], rounds: int, device: str) -> dict[str, Any]:
    """Return figures of one Classifier and of onnxruntime's session alone, for each batch and number of threads.

    The ways take turns; a ratio is the median of the rounds' ratios, Classifier against session. `images` are uint8 (N,
    C, H, W), N at least the largest batch.
    """
    classifier = Classifier(bundle, device)
    ways: dict[str, Ask] = {
        "classifier": classifier.classify,
        "session": partial(_run, open_session(bundle, "classifier", device)),
        "session of one thread": partial(_run, open_session(bundle, "classifier", device, num_threads=1)),
    }
    return {
        "rows": [
            {"batch": batch, "threads": threads} | _compared(ways, images[:batch], threads, rounds, requests // threads)
            for batch, requests in REQUESTS.items()
            for threads in THREADS
        ],
    }


def _run(session: Any, images: NDArray[np.uint8]) -> None:
    session.run(["probabilities", "latent"], {"images": images})


def _compared(
    ways: dict[str, Ask], images: NDArray[np.uint8], threads: int, rounds: int, requests: int
) -> dict[str, Any]:
    figures = {name: np.empty((rounds, len(FIGURES))) for name in ways}
    for each in range(rounds):
        for name, ask in ways.items():
            seconds, whole = closed_loop(partial(ask, images), threads, requests)
            figures[name][each] = *np.percentile(1000 * seconds, (50, 99)), seconds.size / whole
    row = {name: _named(np.median(values, axis=0)) for name, values in figures.items()}
    own = figures.pop("classifier")
    ratios = {f"classifier/{name}": _named(np.median(own / values, axis=0)) for name, values in figures.items()}
    return row | ratios


def _named(values: NDArray[np.float64]) -> dict[str, float]:
    return {figure: round(float(value), 3) for figure, value in zip(FIGURES, values, strict=True)}


def lines(result: dict[str, Any]) -> list[str]:
    """Return the result in words, a line each."""
    told = []
    for row in result["rows"]:
        for name, value in row.items():
            if isinstance(value, dict):
                figures = "  ".join(f"{key.replace('_', ' ')} {figure:8.2f}" for key, figure in value.items())
                told.append(f"batch {row['batch']:>2}, {row['threads']:>2} threads, {name:<32} {figures}")
    return told
