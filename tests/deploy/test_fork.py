"""A classifier and a generator that were loaded before a fork answer after it: a pool's threads do not survive one."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from infoae.deploy import Classifier, Generator
from infoae.deploy.per_process import PerProcess
from tests.helpers.bundles import LATENT, make_bundle

IMAGES = np.random.default_rng(0).integers(0, 256, (200, 28, 28), np.uint8)
LATENTS = np.random.default_rng(1).normal(size=(600, LATENT)).astype(np.float32)
SECONDS = 120


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("model") / "bundle")


def answer_of_child(compute: Callable[[], np.ndarray]) -> np.ndarray:
    """What `compute` gives in a forked process, which is killed if it hangs."""
    ours, theirs = multiprocessing.Pipe()

    def send(connection: Connection) -> None:
        connection.send(compute())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of newer Pythons: this process has threads
        child = multiprocessing.get_context("fork").Process(target=send, args=(theirs,))
        child.start()
    try:
        assert ours.poll(SECONDS), "the forked process hangs"
        answer: np.ndarray = ours.recv()
    finally:
        child.kill()
        child.join()
    return answer


def test_a_forked_process_answers(bundle: Path) -> None:
    classifier = Classifier(bundle, "cpu", batch_size=7, num_threads=3)
    generator = Generator(bundle, "cpu", num_threads=3)
    here = classifier.classify(IMAGES).probabilities, generator.decode(LATENTS)  # their threads have started
    assert np.array_equal(answer_of_child(lambda: classifier.classify(IMAGES).probabilities), here[0])
    assert np.array_equal(answer_of_child(lambda: generator.decode(LATENTS)), here[1])
    assert np.array_equal(classifier.classify(IMAGES).probabilities, here[0])


def test_the_fork_of_a_fork_answers(bundle: Path) -> None:
    classifier = Classifier(bundle, "cpu", batch_size=7, num_threads=2)
    here = classifier.classify(IMAGES).probabilities

    def child() -> np.ndarray:
        classifier.classify(IMAGES)
        return answer_of_child(lambda: classifier.classify(IMAGES).probabilities)

    assert np.array_equal(answer_of_child(child), here)


def test_a_value_is_made_once_in_each_process() -> None:
    made: list[int] = []

    def make() -> list[int]:
        made.append(os.getpid())
        return made

    value = PerProcess(make)
    assert value.get() is value.get() is made
    assert made == [os.getpid()]
    assert answer_of_child(lambda: np.array([len(value.get()), len(value.get())])).tolist() == [2, 2]


APP = """
import json, os
import numpy as np
from infoae.deploy import Classifier

classifier = Classifier(os.environ["BUNDLE"], "cpu", batch_size=7, num_threads=2)
images = np.random.default_rng(0).integers(0, 256, (200, 28, 28), np.uint8)
classifier.classify(images)


def app(environ, start_response):
    content = json.dumps(classifier.classify(images).labels.tolist()).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [content]
"""


def test_gunicorn_with_preload_answers(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(APP)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "--preload",
        "--workers",
        "2",
        "--graceful-timeout",
        str(10 * SECONDS),
        "--bind",
        f"127.0.0.1:{port}",
        "served:app",
    ]
    environment = os.environ | {"BUNDLE": str(bundle), "PYTHONPATH": f"{tmp_path}:{Path.cwd()}"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, start_new_session=True
    ) as server:
        try:
            labels = None
            end = time.monotonic() + SECONDS
            while labels is None:
                assert time.monotonic() < end, "no answer"
                assert server.poll() is None, server.stderr and server.stderr.read()
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=SECONDS) as answer:
                        labels = json.load(answer)
                except urllib.error.URLError as error:
                    if not isinstance(error.reason, ConnectionRefusedError):
                        raise
                    time.sleep(0.2)
        finally:
            server.terminate()
            try:
                server.communicate(timeout=SECONDS)  # gunicorn itself waits for its workers to end
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                raise
    assert labels == Classifier(bundle, "cpu").classify(IMAGES).labels.tolist()
