"""What Prometheus would find of a training and of a classification, scraped from a Ray that runs."""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from infoae import metric_names, planning
from infoae.cluster import driver, ray_metrics
from infoae.cluster.connect import Request
from infoae.deploy import ray_batch
from infoae.runs import outcome
from infoae.runs.run import Run
from tests.helpers.bundles import make_bundle
from tests.helpers.inputs import png
from tests.helpers.paths import ROOT
from tests.helpers.settings import TINY
from tests.helpers.waiting import wait_until

pytestmark = [
    pytest.mark.xdist_group("ray"),
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def session() -> Iterator[Path]:
    """The folder of a Ray of two CPUs that exports its metrics every half second."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("RAY_metrics_report_interval_ms", "500")
        ray.init(address="local", num_cpus=2, include_dashboard=False)
        node: Any = ray._private.worker._global_node
        yield Path(node.get_session_dir_path())
        ray.shutdown()


@contextlib.contextmanager
def scraping() -> Iterator[dict[str, dict[tuple[str, ...], set[float]]]]:
    """Yield all values that each of infoae's metrics has, by its tags, while the block goes on."""
    import ray

    (node,) = ray.nodes()  # type: ignore[no-untyped-call]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    seen: dict[str, dict[tuple[str, ...], set[float]]] = defaultdict(lambda: defaultdict(set))
    tags = {metric.exported: metric.tags for metric in ray_metrics.ALL}
    ended = threading.Event()

    def scrape() -> None:
        while not ended.wait(0.2):
            with contextlib.suppress(OSError):
                text = urllib.request.urlopen(url, timeout=5).read().decode()
                for family in text_string_to_metric_families(text):
                    for sample in family.samples:
                        names = tags.get(sample.name)
                        if names is not None:
                            seen[sample.name][tuple(sample.labels[name] for name in names)].add(sample.value)
                        elif sample.name.startswith("ray_train_report"):
                            seen["reports"][()].add(sample.value)

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def test_what_is_scraped_of_a_training_is_what_metrics_jsonl_says(session: Path, tmp_path: Path) -> None:
    plan = planning.planned("smoke", [*TINY, "train.epochs=10"], tmp_path, "watched")
    with scraping() as seen:
        result = driver.run(plan, "disabled", Request(1, 1, 2), None, 3)
    assert (result.finished, result.team.workers if result.team else 0) == (True, 2)
    lines = list(Run(tmp_path / "watched").metrics())

    def logged(name: str) -> set[float]:
        return {line[name] for line in lines if name in line}

    losses = {name.removeprefix("loss/") for line in lines for name in line if name.startswith("loss/")}
    assert {loss for _, loss in seen["ray_infoae_loss"]} == losses
    for loss in losses:
        values = seen["ray_infoae_loss"]["watched", loss]
        assert values
        assert values <= logged(metric_names.of_loss(loss))
    assert seen["ray_infoae_step"]["watched",] <= set(range(1, 61))
    assert seen["ray_infoae_steps"]["watched",] == {60}
    assert seen["ray_infoae_epoch"]["watched",] <= set(range(1, 11))
    assert seen["ray_infoae_images_per_second"]["watched",] <= logged(metric_names.IMAGES_PER_SECOND)
    assert {rank for _, rank in seen["ray_infoae_data_wait"]} == {"0", "1"}
    assert seen["ray_infoae_data_wait"]["watched", "0"] <= logged(metric_names.DATA_WAIT)
    assert all(0 < value < 1 for value in seen["ray_infoae_data_wait"]["watched", "1"])
    assert min(seen["ray_infoae_seconds_left"]["watched",]) >= 0
    assert seen["ray_infoae_measure"]["watched", "balance"] <= logged("evaluation/balance")
    assert seen["ray_infoae_restarts"]["watched",] == {0}
    assert seen["reports"], "Ray Train counts the reports that it was given"
    known = outcome.read(Run(tmp_path / "watched"))
    assert known is not None
    assert (known.state, known.restarts) == ("ended", 0)

    messages = [
        json.loads(line)["message"]
        for file in (session / "logs" / "train").glob("ray-train-app-worker-*.log")
        for line in file.read_text().splitlines()
    ]
    for rank in (0, 1):
        assert any(message.startswith(f"run watched rank {rank} step 1: of 60, epoch 1 of 10") for message in messages)
    assert "run watched rank 0 step 60: checkpoint saved" in messages


@pytest.mark.usefixtures("session")
def test_rows_and_errors_of_a_classification_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()
    for number in range(20):
        (tmp_path / "images" / f"{number:02d}.png").write_bytes(png(number) if number % 5 else b"")
    make_bundle(tmp_path / "bundle")
    monkeypatch.chdir(tmp_path)
    with scraping() as seen:
        summary = ray_batch.classify_on_ray(["images"], Path("bundle"), Path("labels"), batch_size=8)
        wait_until(lambda: seen["ray_infoae_rows_total"]["labels",])
    assert (summary.num_rows, summary.num_failed) == (20, 4)
    assert max(seen["ray_infoae_rows_total"]["labels",]) == 20
    assert max(seen["ray_infoae_row_errors_total"]["labels",]) == 4
