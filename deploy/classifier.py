"""`Classifier`: images to categories, from a bundle. Torch is neither needed nor imported."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from infoae.cpus import available_cpus
from infoae.data.unreadable import UnreadableImageError, unreadable
from infoae.deploy.bundle import SAMPLE, Bundle, Manifest
from infoae.deploy.onnx_session import open_session
from infoae.deploy.per_process import PerProcess
from infoae.errors import InfoAEError
from infoae.gpu import Device, Provider
from infoae.sessions import device_of, run_session

BATCH_SIZE = 256
_CPU_BATCH_SIZE = 128  # what one thread computes at once: more would not stay in a core's cache


@dataclass(frozen=True)
class Answers:
    """What the classifier says of N images: `probabilities` float32 (N, K), `latent` float32 (N, Z)."""

    probabilities: NDArray[np.float32]
    latent: NDArray[np.float32]

    @property
    def labels(self) -> NDArray[np.int64]:
        """The most probable category of each image, (N,)."""
        labels: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return labels

    def __len__(self) -> int:
        return len(self.probabilities)


class Classifier:
    """The classifier of a bundle, ready to use from any number of threads, and in processes forked from this one.

    Opening it checks the SHA-256 of every byte it loads and that it gives the answers the bundle was exported with.
    """

    manifest: Manifest
    device: str
    """The device in use, "cpu" or "cuda"."""

    def __init__(
        self,
        bundle: str | Path | Bundle,
        device: str = Device.AUTO,
        *,
        batch_size: int = BATCH_SIZE,
        num_threads: int | None = None,
        provider: str = Provider.CUDA,
    ) -> None:
        """Open the classifier of `bundle`, a folder or a loaded Bundle.

        `device` is "auto", "cpu" or "cuda". On the CPU `num_threads` threads, by default the CPUs this process may use,
        share the images; each computes at most `batch_size` at a time, and at most 128. A GPU computes always
        `batch_size`; `provider` is how: "cuda", "cuda-graph" (a batch is one CUDA graph, and callers take turns) or
        "tensorrt" (so, by engines that are built once and kept in the user's cache).

        Raises InfoAEError for a bundle that is missing, damaged, too new or gives wrong answers here, for device "cuda"
        without a usable GPU, and for a provider that cannot do all operations.
        """
        if batch_size < 1:
            raise InfoAEError(f"batch_size {batch_size}: give at least 1")
        bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
        self.manifest = bundle.manifest
        self._batch_size = batch_size
        # Threads that share images wait for each other once; those that share operators, at every operator.
        self._sessions = PerProcess(partial(open_session, bundle, "classifier", device, 1, provider))
        self.device = device_of(self._sessions.get())
        self._num_threads = 1 if self.device == "cuda" else num_threads or available_cpus()
        # Each starts its threads as they are needed.
        self._pools = PerProcess(partial(ThreadPoolExecutor, self._num_threads, "infoae-classifier"))
        self._pool_is_taken = PerProcess(Lock)
        self._check_sample(bundle)

    def classify(self, images: NDArray[np.uint8]) -> Answers:
        """Return the answers for uint8 `images` of 0..255, (N, C, H, W), or (N, H, W) where C is 1; N may be 0.

        Raises InfoAEError for any other type or shape: nothing is converted here (see infoae.data.convert).
        """
        images = self._checked(images)
        count = len(images)
        probabilities = np.empty((count, self.manifest.num_categories), np.float32)
        latent = np.empty((count, self.manifest.latent_dim), np.float32)
        most = self._batch_size if self.device == "cuda" else min(self._batch_size, _CPU_BATCH_SIZE)
        size = max(1, min(most, -(-count // self._num_threads)))
        session = self._sessions.get()
        starts = deque(range(0, count, size))  # each thread takes the next: a pool's task for each would cost more

        def run(_: int) -> None:
            try:
                for start in _taken(starts):
                    batch = slice(start, start + size)
                    inputs = {"images": np.ascontiguousarray(images[batch])}
                    answers = run_session(session, ["probabilities", "latent"], inputs, self._batch_size)
                    probabilities[batch], latent[batch] = answers
            finally:
                starts.clear()  # if this one failed, the others need not go on

        # One batch, or one thread, needs no pool: the caller's thread computes. So it does while another caller has the
        # pool: the CPUs are busy then, and handing batches over to wait in line costs half the answers a second.
        taken = self._pool_is_taken.get()
        threads = range(min(len(starts), self._num_threads))
        shared = len(threads) > 1 and taken.acquire(blocking=False)
        try:
            for _ in self._pools.get().map(run, threads) if shared else map(run, threads[:1]):
                pass
        finally:
            starts.clear()  # nor after Ctrl-C
            if shared:
                taken.release()
        return Answers(probabilities, latent)

    def _checked(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        shape = self.manifest.image.shape
        dtype, given = getattr(images, "dtype", type(images).__name__), getattr(images, "shape", ())
        if len(given) == 3 and shape[0] == 1 and given[1:] == shape[1:]:
            images = images[:, None]
        elif len(given) != 4 or given[1:] != shape:
            raise InfoAEError(f"images of shape {given}: this model takes (N, {', '.join(map(str, shape))})")
        if dtype != np.uint8:
            raise InfoAEError(f"images of type {dtype}: this model takes uint8, 0 to 255")
        return images

    def _check_sample(self, bundle: Bundle) -> None:
        """Run the real images in the bundle, whose answers are known: a wrong runtime or GPU shows here, at once."""
        try:
            content = bundle.read(SAMPLE)
            with unreadable(), np.load(io.BytesIO(content), allow_pickle=False) as sample:
                images, tolerance = sample["images"], float(sample["tolerance"])
                if not images.size:
                    raise UnreadableImageError("no images")
                expected = Answers(*(sample[name].astype(np.float32) for name in ("probabilities", "latent")))
        except UnreadableImageError as error:
            raise InfoAEError(f"bundle {bundle.path}: {SAMPLE} is not as export writes it; export it again") from error
        answers = self.classify(images)
        for name in ("probabilities", "latent"):
            found, wanted = getattr(answers, name), getattr(expected, name)
            difference = np.abs(found - wanted).max() if found.shape == wanted.shape else np.inf
            if not difference <= tolerance:  # a NaN must fail too
                raise InfoAEError(
                    f"bundle {bundle.path}: {name} on {self.device} differ by {difference:.3g} from those at export, "
                    f"more than {tolerance:.3g}; try another --device, or export it again"
                )


def _taken(starts: deque[int]) -> Iterator[int]:
    """Yield what is left of `starts`, of which other threads take, too."""
    with suppress(IndexError):
        while True:
            yield starts.popleft()
