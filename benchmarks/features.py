"""How fast features of pictures are made, beside what onnxruntime alone does with the same encoder, in one run.

    python benchmarks/features.py ENCODER.onnx PHOTOS [--rounds 3]

Alone, a session on ENCODER gets batches of pixels that are ready, again and again. Pictures are what
`--data PHOTOS --features ENCODER.onnx` does: files are read, decoded, resized, computed, shuffled and written. Both
take turns, each on all CPUs; printed are images a second of each, their median ratio, and the ratio by CPU time, which
other processes on the machine change less.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infoae.config import Features
from infoae.data.image_spec import ImageSpec
from infoae.features.encoder import BATCH, FrozenEncoder, opened
from infoae.inputs.convert import convert_files
from infoae.inputs.featuring import Featuring
from infoae.sessions import session_of

Rates = NDArray[np.float64]
"""Images a second, of the clock and of CPU time: (2,)."""


def clocks() -> Rates:
    """Return seconds of the clock and of CPU time."""
    return np.array([time.perf_counter(), time.process_time()])


def alone(encoder: FrozenEncoder, path: Path, count: int) -> Rates:
    """Return the rates of the file as it is, on `count` images that are in memory as it takes them."""
    session = session_of(path.read_bytes(), str(path), "cpu")
    (given,) = session.get_inputs()
    kind = np.uint8 if "uint8" in given.type else np.float32
    pictures = np.random.default_rng(0).integers(0, 2, (BATCH, *encoder.image.shape)).astype(kind)
    session.run(None, {given.name: pictures})
    batches = max(1, count // BATCH)
    start = clocks()
    for _ in range(batches):
        session.run(None, {given.name: pictures})
    return batches * BATCH / (clocks() - start)


def of_files(config: Features, photos: str, folder: Path) -> tuple[Rates, int]:
    """Return the rates from files to shards with features, and how many files there were."""
    image = ImageSpec(channels=3, height=32, width=32)
    start = clocks()
    done = convert_files([photos], folder / "shards", image, features=Featuring(config))
    count = done.num_train + done.num_test
    return count / (clocks() - start), count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder")
    parser.add_argument("photos")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    config = Features(encoder=arguments.encoder)
    encoder = opened(config)
    assert isinstance(encoder, FrozenEncoder), "an ONNX file is measured"
    ratios = []
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as folder:
            files, count = of_files(config, arguments.photos, Path(folder))
        session = alone(encoder, Path(arguments.encoder), count)
        ratios.append(files / session)
        print(f"{count} pictures: {files[0]:.1f} images/s from files, {session[0]:.1f} alone", flush=True)
    wall, cpu = np.median(ratios, axis=0)
    print(f"ratio, median of {len(ratios)}: {wall:.2f}; of CPU time {cpu:.2f}")


if __name__ == "__main__":
    main()
