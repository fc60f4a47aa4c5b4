"""Images per second of classification, each way to do it, in one run on one machine.

    python benchmarks/classify.py runs/latest [--device cuda] [--rounds 5] [--million] [--out docs/results]
    python benchmarks/classify.py runs/latest --latency [--device cuda] [--rounds 5] [--out docs/results]

All take turns, so that a machine whose speed drifts slows all of them; a ratio is the median of the rounds' ratios.
Batches of one size (256 by default) and every CPU for each, the GPU instead with --device cuda. Images start and
answers end in main memory. Rates of commands leave their start out, which is measured by itself. --latency measures how
long single requests wait instead, from 1, 8 and 32 threads that share one Classifier or one session of onnxruntime.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from benchmarks import latency
from infoae import data
from infoae.cpus import available_cpus
from infoae.deploy import Classifier
from infoae.deploy.bundle import Bundle
from infoae.deploy.classifier import BATCH_SIZE
from infoae.deploy.export import export_run
from infoae.deploy.onnx_session import open_session
from infoae.deploy.precision import Precision
from infoae.errors import InfoAEError
from infoae.files import write_json
from infoae.gpu import Device, Provider
from infoae.inputs.decoding import decode, ordered_map, read_blocks
from infoae.inputs.sources import open_sources
from infoae.model import InfoAE
from infoae.runs.run import Run

COMMAND = [sys.executable, "-c", "from infoae.cli.main import main; main()"]
FIRST_LABEL = """
import sys, numpy as np
from infoae.deploy import Classifier
Classifier(sys.argv[1]).classify(np.zeros((1, *map(int, sys.argv[2:])), np.uint8))
assert "torch" not in sys.modules
"""
# Its own process: what a process had in memory when it started another counts as the other's peak.
PEAK = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps({"peak_kib": peak} | json.loads(done.stdout)))
"""
MILLION = 1_000_000
Images = NDArray[np.uint8]


class Plain(nn.Module):
    """The classifier as PyTorch has it, batch normalisation and all, from pixels to probabilities and latent."""

    def __init__(self, model: InfoAE) -> None:
        super().__init__()
        self.encoder, self.classifier = model.encoder, model.classifier

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        z = self.encoder(images.float() / 255)
        return self.classifier(z).softmax(1), z


def by_session(session: Any, images: Images, batch_size: int) -> None:
    for start in range(0, len(images), batch_size):
        session.run(["probabilities", "latent"], {"images": images[start : start + batch_size]})


@torch.inference_mode()
def by_torch(network: Callable[[Tensor], tuple[Tensor, Tensor]], images: Tensor, batch_size: int, device: str) -> None:
    for batch in images.split(batch_size):
        for answer in network(batch.to(device)):
            answer.cpu()


def by_decoding(folder: Path, bundle: Bundle, out: Path) -> None:
    image = bundle.manifest.image
    blocks = read_blocks(open_sources([str(folder)], image, exclude=out), BATCH_SIZE)  # as the command has it
    for _ in ordered_map(lambda block: decode(block, image), blocks, available_cpus()):
        pass


def rate(action: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    action()
    return count / (time.perf_counter() - start)


def command_rate(options: list[str], bundle: Path, source: Path, out: Path) -> float:
    """Images/s that `infoae classify` reports for itself."""
    arguments = ["classify", str(source), "--model", str(bundle), "--out", str(out), "--json", *options]
    done = subprocess.run([*COMMAND, *arguments], check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout)["images_per_second"])


def start_seconds(bundle: Path, shape: tuple[int, ...]) -> float:
    """Seconds from starting Python to the first label."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", FIRST_LABEL, str(bundle), *map(str, shape)], check=True)
    return time.perf_counter() - start


def peak_of_million(options: list[str], bundle: Path, source: Path, count: int, out: Path) -> tuple[float, float]:
    """GiB and images/s of one command that classifies `source` over and over, a million images in all."""
    repeats = [str(source)] * -(-MILLION // count)
    arguments = ["classify", *repeats, "--model", str(bundle), "--out", str(out), "--json", *options]
    watched = [sys.executable, "-c", PEAK, *COMMAND, *arguments]
    summary = json.loads(subprocess.run(watched, check=True, stdout=subprocess.PIPE, text=True).stdout)
    assert summary["num_rows"] >= MILLION
    return summary["peak_kib"] / 2**20, float(summary["images_per_second"])


def measure(
    run: Run, rounds: int, repeats: int, million: bool, device: str, batch_size: int, folder: Path
) -> dict[str, Any]:
    """Return every figure; `repeats` is how often the test images are given to the ways that read arrays."""
    options = ["--device", device, "--batch-size", str(batch_size)]
    model, test = InfoAE.of_run(run), data.load(run.config().data, "test")
    bundle = Bundle.load(export_run(run, folder / "bundle").path)
    images = np.tile(test.images, (repeats, 1, 1, 1))
    np.savez(folder / "images.npz", images=images)
    pictures = folder / "png"
    pictures.mkdir()
    for index, pixels in enumerate(test.images):
        picture = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
        Image.fromarray(picture).save(pictures / f"{index:06d}.png")

    network = Plain(model).to(device)
    compiled = torch.compile(network)
    tensors = torch.from_numpy(images)
    session, classifier = open_session(bundle, "classifier", device), Classifier(bundle, device, batch_size=batch_size)
    ways: dict[str, Callable[[], float]] = {
        "session": partial(rate, partial(by_session, session, images, batch_size), len(images)),
        "classifier": partial(rate, partial(classifier.classify, images), len(images)),
        "torch_eager": partial(rate, partial(by_torch, network, tensors, batch_size, device), len(images)),
        "torch_compile": partial(rate, partial(by_torch, compiled, tensors, batch_size, device), len(images)),
        "npz": partial(command_rate, options, bundle.path, folder / "images.npz", folder / "npz.csv"),
        "png": partial(command_rate, options, bundle.path, pictures, folder / "png.csv"),
        "decoding": partial(rate, partial(by_decoding, pictures, bundle, folder / "png.csv"), len(test)),
    }
    if device == Device.CPU:  # CUDA computes no int8 convolutions
        try:
            int8 = Classifier(export_run(run, folder / "int8", precision=Precision.INT8).path, device)
            ways["classifier_int8"] = partial(rate, partial(int8.classify, images), len(images))
        except InfoAEError as refused:
            print(refused, file=sys.stderr)
    else:
        for provider in (Provider.CUDA_GRAPH, Provider.TENSORRT):
            try:
                other = Classifier(bundle, device, batch_size=batch_size, provider=provider)
                ways[f"classifier_{provider}"] = partial(rate, partial(other.classify, images), len(images))
            except InfoAEError as refused:
                print(refused, file=sys.stderr)
    last = len(tensors) % batch_size or batch_size  # has its own shape
    for count in (batch_size, last):
        by_session(session, images[:count], batch_size)
        for warm in (network, compiled):
            by_torch(warm, tensors[:count], batch_size, device)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    starts = []
    for _ in range(rounds):
        for name, way in ways.items():
            rates[name].append(way())
        starts.append(start_seconds(bundle.path, bundle.manifest.image.shape))
    result: dict[str, Any] = {
        **_situation(run, rounds, device),
        "batch_size": batch_size,
        "images_per_second": {name: round(statistics.median(values), 1) for name, values in rates.items()},
        "ratios": {
            f"{above}/{below}": round(_ratio(rates[above], rates[below]), 3)
            for above, below in (
                ("classifier", "session"),
                ("npz", "session"),
                ("classifier", "torch_eager"),
                ("classifier_int8", "torch_eager"),
                ("classifier_cuda-graph", "classifier"),
                ("classifier_tensorrt", "classifier"),
                ("classifier", "torch_compile"),
                ("png", "decoding"),
            )
            if above in rates
        },
        "seconds_to_first_label": round(statistics.median(starts), 3),
    }
    if million:
        peak, speed = peak_of_million(options, bundle.path, folder / "images.npz", len(images), folder / "million.csv")
        result["million"] = {"peak_gib": round(peak, 3), "images_per_second": speed}
    return result


def measure_latency(run: Run, rounds: int, device: str, folder: Path) -> dict[str, Any]:
    """Return what benchmarks.latency measures of a run's bundle, with its test images."""
    bundle = Bundle.load(export_run(run, folder / "bundle").path)
    images = data.load(run.config().data, "test").images
    return _situation(run, rounds, device) | latency.measure(bundle, np.asarray(images), rounds, device)


def _situation(run: Run, rounds: int, device: str) -> dict[str, Any]:
    name = torch.cuda.get_device_name() if device == Device.CUDA else "cpu"
    return {"run": run.name, "device": name, "cpus": available_cpus(), "rounds": rounds}


def _ratio(above: list[float], below: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5, help="how often the test images are classified as an array")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    parser.add_argument("--million", action="store_true", help="also classify a million images and watch the memory")
    parser.add_argument("--latency", action="store_true", help="measure how long requests wait, and nothing else")
    parser.add_argument("--out", type=Path, help="folder for classify.json, or latency.json")
    arguments = parser.parse_args()
    torch.set_num_threads(available_cpus())
    if arguments.latency:
        with tempfile.TemporaryDirectory() as folder:
            run = Run.open(arguments.run)
            result = measure_latency(run, arguments.rounds, arguments.device, Path(folder))
        print(f"run {result['run']}, {result['device']}, {result['cpus']} CPUs, medians of {result['rounds']} rounds")
        print("\n".join(latency.lines(result)))
        if arguments.out is not None:
            write_json(arguments.out / "latency.json", result)
        return
    with tempfile.TemporaryDirectory() as folder:
        given = arguments.rounds, arguments.repeats, arguments.million, arguments.device, arguments.batch_size
        result = measure(Run.open(arguments.run), *given, Path(folder))
    where = f"{result['device']}, {result['cpus']} CPUs, batches of {result['batch_size']}"
    print(f"run {result['run']}, {where}, medians of {result['rounds']} rounds")
    for name, value in result["images_per_second"].items():
        print(f"{name:<28} {value:10,.0f} images/s")
    for name, value in result["ratios"].items():
        print(f"{name:<28} {value:10.2f}")
    print(f"{'start to first label':<28} {result['seconds_to_first_label']:10.2f} s")
    if "million" in result:
        print(f"{'a million images':<28} {result['million']['peak_gib']:10.2f} GiB at most")
    if arguments.out is not None:
        write_json(arguments.out / "classify.json", result)


if __name__ == "__main__":
    main()
