"""Is a bundle the model it was made from? PyTorch against onnxruntime on real images; a difference fails the export."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from infoae import metrics
from infoae.category_model import CategoryModel
from infoae.data import ImageSet
from infoae.data.decode import resized
from infoae.data.image_spec import ImageSpec
from infoae.deploy import any_size
from infoae.deploy.bundle import Bundle
from infoae.deploy.classifier import BATCH_SIZE, Answers
from infoae.deploy.graphs import Role
from infoae.deploy.onnx_session import open_session
from infoae.deploy.precision import Precision
from infoae.errors import InfoAEError, one_line
from infoae.sessions import run_session, session_of

BATCHES = (1, 7, 256)
SAMPLE_IMAGES = 16
"""The first test images go into the bundle with their answers."""
FROZEN_IMAGES = 256
"""Test images that a graph with a frozen encoder is verified on, of its own size."""
TOLERANCE = {Precision.FP32: 1e-4, Precision.FP16: 2e-2, Precision.INT8: 5e-2}
"""Largest difference of any value, as a part of the output's largest value or of 1, whichever is more. Probabilities at
int8 are free of it: an image near the border of two categories may change sides, and DISAGREEMENT bounds how many."""
DISAGREEMENT = {Precision.FP32: 0.0, Precision.FP16: 1e-3, Precision.INT8: 5e-3}
"""Largest part of the test images that may get another label."""
DIFFERENT_BITS = {Precision.FP32: 1e-2, Precision.FP16: 1e-1, Precision.INT8: 1e-2}
"""Largest part of generated pixels that may differ where each is drawn as 0 or 1 given those before it."""

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class OutputParity:
    """The largest difference of one output from PyTorch's, over batches of 1, 7 and 256, and what was allowed."""

    name: str
    difference: float
    tolerance: float


@dataclass(frozen=True)
class Verification:
    """What was measured on a bundle that passed."""

    outputs: list[OutputParity]
    num_images: int
    num_different: int
    """Test images whose label is not PyTorch's."""
    accuracy: float | None
    """Of the bundle on the test images, categories matched to classes one-to-one; None without classes."""
    torch_accuracy: float | None
    sample_tolerance: float
    """How far the answers for the first SAMPLE_IMAGES test images may lie from PyTorch's on another machine."""
    answers: Answers
    """Of the bundle for the test images."""
    speedup: float
    """Images a second of the classifier over those of its fp32 graph, here; 1 for fp32."""
    pixels_any: int | None
    """Levels of 255, at most, between pixels_any.onnx and infoae's own resize; None without that graph."""

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for bundle.json: those that another export of the run repeats."""
        differences = {output.name: float(f"{output.difference:.1e}") for output in self.outputs}
        return {"images": self.num_images, "labels_different": self.num_different, "largest_difference": differences}


def verify(bundle: Bundle, model: CategoryModel, test: ImageSet, fp32: bytes) -> Verification:
    """Compare the graphs of `bundle` with `model` on `test`; `fp32` is the classifier's graph at full precision.

    Checked: ONNX's own rules; names, types and shapes; every output at batches of 1, 7 and 256; the label of every
    test image, from pixels; the resize of pixels_any.onnx. Raises InfoAEError naming the first that fails.
    """
    if len(test) == 0:
        raise InfoAEError("the test set holds no images: there is nothing to verify the export on")
    precision, resizing = Precision(bundle.manifest.precision), bundle.manifest.pixels_any
    for spec in (*bundle.manifest.files.values(), *([] if resizing is None else [resizing])):
        try:
            onnx.checker.check_model(onnx.load_from_string(bundle.read(spec.file)), full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise InfoAEError(f"{spec.file} is not valid ONNX: {one_line(error)}") from error
    sessions = {role: open_session(bundle, role, "cpu") for role in bundle.manifest.files}
    outputs = [parity for role in sessions for parity in _compare(role, sessions[role], model, test.images, precision)]
    for output in outputs:
        if not (math.isfinite(output.difference) and output.difference <= output.tolerance):
            raise InfoAEError(
                f"{precision} is refused: {output.name} differs from PyTorch by {output.difference:.2g}, more than "
                f"{output.tolerance:.2g}{_advice(precision)}"
            )
    expected = _torch_answers(model, test.images)
    found = _answers(sessions["classifier"], test.images)
    num_different, num_ties = _count_different(expected["probabilities"], found["probabilities"], precision)
    if num_different - num_ties > DISAGREEMENT[precision] * len(test):
        raise InfoAEError(
            f"{precision} is refused: the labels of {num_different} of {len(test)} test images differ from PyTorch's, "
            f"more than {DISAGREEMENT[precision]:.1%}{_advice(precision)}"
        )
    return Verification(
        outputs=outputs,
        num_images=len(test),
        num_different=num_different,
        accuracy=accuracy_of(found["probabilities"], test, model.num_categories),
        torch_accuracy=accuracy_of(expected["probabilities"], test, model.num_categories),
        sample_tolerance=_sample_tolerance(expected, found, precision),
        answers=Answers(**found),
        speedup=1.0 if precision is Precision.FP32 else _speedup(sessions["classifier"], fp32, test.images),
        pixels_any=None if resizing is None else any_size.check(bundle.read(resizing.file), bundle.manifest.image),
    )


def seen_by(model: CategoryModel, test: ImageSet) -> ImageSet:
    """Return the test images as the classifier's graph takes them: of the size that the model encodes.

    Where a frozen encoder takes others than are drawn, and much longer to compute, they are the first FROZEN_IMAGES.
    They have no labels then: small images enlarged are not what is classified later, and get other answers.
    """
    if model.seen_shape == model.image_shape:
        return test
    channels, height, width = model.seen_shape
    image = ImageSpec.model_validate({"channels": channels, "height": height, "width": width})
    return ImageSet(resized(test.images[:FROZEN_IMAGES], image), None)


def _compare(
    role: Role, session: Any, model: CategoryModel, images: NDArray[np.uint8], precision: Precision
) -> Iterator[OutputParity]:
    differences: dict[str, float] = {}
    scales: dict[str, float] = {}
    for size in BATCHES:
        batch = images[np.arange(size) % len(images)]  # a small test set fills the batch by repeating itself
        inputs, expected = _reference(role, model, batch)
        found = run_session(session, list(expected), inputs)
        for (name, wanted), given in zip(expected.items(), found, strict=True):
            difference = _difference(wanted, given, role == "generator" and model.draws_bits)
            # np.maximum keeps a NaN, which max() may drop
            differences[name] = float(np.maximum(differences.get(name, 0.0), difference))
            scales[name] = max(scales.get(name, 1.0), float(np.abs(wanted).max()))
    if precision is Precision.INT8 and role != "classifier":
        precision = Precision.FP32  # as export leaves them
    for name, difference in differences.items():
        bounded = precision is not Precision.INT8 or name != "probabilities"
        allowed = TOLERANCE[precision] * scales[name] if bounded else math.inf
        if role == "generator" and model.draws_bits:
            allowed = DIFFERENT_BITS[precision]
        yield OutputParity(f"{role}.{name}", difference, allowed)


def _difference(wanted: NDArray[Any], given: NDArray[Any], bits: bool) -> float:
    """Return the largest difference; of images drawn bit by bit, whose rest follows each bit, the part that differs."""
    if given.shape != wanted.shape:
        return math.inf
    return float((given != wanted).mean()) if bits else float(np.abs(given - wanted).max())


def _reference(role: Role, model: CategoryModel, images: NDArray[np.uint8]) -> tuple[Arrays, Arrays]:
    """Inputs of a graph made from real images, and PyTorch's outputs for them."""
    if role == "classifier":
        return {"images": images}, _torch_answers(model, images)
    if role == "decoder":
        latent = model.encode(images)
        return {"latent": latent.numpy()}, {"images": model.decode(latent).numpy()}
    random = np.random.default_rng(0)
    noise = random.uniform(-1, 1, (len(images), model.noise_dim)).astype(np.float32)
    category = np.arange(len(images)) % model.num_categories
    drawn = model.images_of(torch.from_numpy(noise), torch.from_numpy(category))
    return {"noise": noise, "category": category}, {"images": drawn.numpy()}


def _torch_answers(model: CategoryModel, images: NDArray[np.uint8]) -> Arrays:
    return {"probabilities": model.classify(images).numpy(), "latent": model.encode(images).numpy()}


def _answers(session: Any, images: NDArray[np.uint8]) -> Arrays:
    names = ["probabilities", "latent"]
    starts = range(0, len(images), BATCH_SIZE)
    parts = [run_session(session, names, {"images": images[start : start + BATCH_SIZE]}) for start in starts]
    return {name: np.concatenate(arrays) for name, arrays in zip(names, zip(*parts, strict=True), strict=True)}


def _count_different(
    expected: NDArray[np.float32], found: NDArray[np.float32], precision: Precision
) -> tuple[int, int]:
    """Count images with another label, and among them ties: their two best categories are closer than the tolerance.

    Only at full precision, where nothing else may differ, is a tie an excuse.
    """
    different = expected.argmax(1) != found.argmax(1)
    if precision is not Precision.FP32:
        return int(different.sum()), 0
    best = np.sort(expected, axis=1)
    ties = different & (best[:, -1] - best[:, -2] <= 2 * TOLERANCE[precision])
    return int(different.sum()), int(ties.sum())


def accuracy_of(probabilities: NDArray[np.float32], test: ImageSet, num_categories: int) -> float | None:
    """Return the accuracy of `probabilities` (N, K), categories matched to classes one-to-one; None without classes."""
    if test.labels is None:
        return None
    confusion = metrics.confusion_matrix(probabilities.argmax(1), test.labels, num_categories, test.labels.max() + 1)
    return metrics.accuracy(confusion, metrics.match_categories(confusion))


def _sample_tolerance(expected: Arrays, found: Arrays, precision: Precision) -> float:
    pairs = [(expected[name][:SAMPLE_IMAGES], found[name][:SAMPLE_IMAGES]) for name in expected]
    if precision is Precision.INT8:
        # Integer arithmetic hardly differs between machines; twice what it costs here is a wrong runtime.
        return 2 * max(float(np.abs(wanted - given).max()) for wanted, given in pairs)
    return TOLERANCE[precision] * max(1.0, *(float(np.abs(wanted).max()) for wanted, _ in pairs))


def _speedup(session: Any, fp32: bytes, images: NDArray[np.uint8]) -> float:
    rivals = (session_of(fp32, "classifier.onnx", "cpu"), session)
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(12):
        for rival, taken in zip(rivals, seconds, strict=True):
            start = time.perf_counter()
            run_session(rival, ["probabilities", "latent"], {"images": images[:BATCH_SIZE]})
            taken.append(time.perf_counter() - start)
    return statistics.median(seconds[0][2:]) / statistics.median(seconds[1][2:])


def _advice(precision: Precision) -> str:
    return "; export fp32" if precision is not Precision.FP32 else ""
