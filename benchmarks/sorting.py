"""How long `infoae sort` takes but for training, and in how much memory, beside what Pillow takes to read the files.

    python benchmarks/sorting.py PICTURES [--count 10000] [--bases 200] [--folder DIR] [--out sorting.json]

PICTURES are small ones, anything that `infoae train --data` takes (CIFAR-10, say): --bases of them are enlarged to
1600 x 1200 pixels, with texture and noise, and written as JPEG files of 300 to 600 kB. Each of the --count files has
bytes of its own. They are deleted at the end.

The stages are those of a sort, in processes of their own: preparing, labelling, gallery, quality, and all of a second
command once one file in a hundred is new. The model is trained for an instant. `pillow` is Image.draft and resize of
the same files to the model's size, in as many threads, before the stages and after. Printed are seconds for 1,000
pictures, of the clock and of CPU time, which other processes on the machine change less; ratios to `pillow`; and the
peak of memory with a quarter of the files and with all.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from infoae.cpus import available_cpus
from infoae.data.image_spec import ImageSpec
from infoae.deploy.bundle import Bundle
from infoae.files import remove, write_json
from infoae.gallery import page
from infoae.inputs.decoding import decode, read_blocks
from infoae.inputs.sources import open_sources
from infoae.runs.run import Run
from infoae.sorting import inventory, labelling, sort, training
from infoae.sorting.checked import check
from infoae.sorting.state import BUNDLE, GALLERY, RUNS, Asked, Progress, Recipe, read

WIDTH, HEIGHT = 1600, 1200
SIZE = 32
RECIPE = "smoke"
"""It trains for an instant: what a training takes is not measured here."""
NEW = 100
"""One file in so many is new to the second command."""

Say = Callable[[str], object]


def bases(pictures: str, count: int) -> list[bytes]:
    """Return JPEG files of WIDTH x HEIGHT pixels: small pictures, enlarged, with texture and noise."""
    random = np.random.default_rng(0)
    image = ImageSpec(channels=3, height=SIZE, width=SIZE)
    blocks = read_blocks(open_sources([pictures], image), count)
    small = itertools.islice(itertools.chain.from_iterable(decode(block, image).images for block in blocks), count)
    return [_photograph(pixels.transpose(1, 2, 0), random) for pixels in small]


def _photograph(pixels: NDArray[np.uint8], random: np.random.Generator) -> bytes:
    large = Image.fromarray(np.ascontiguousarray(pixels)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    coarse = random.normal(0, 12, (HEIGHT // 4, WIDTH // 4)).astype(np.float32)
    texture = np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    noise = random.normal(0, 4, (HEIGHT, WIDTH)).astype(np.float32)
    levels = np.asarray(large, np.float32) + (texture + noise)[..., None]
    written = io.BytesIO()
    Image.fromarray(levels.clip(0, 255).astype(np.uint8)).save(written, "JPEG", quality=85)
    return written.getvalue()


def write(folder: Path, photographs: list[bytes], numbers: range) -> None:
    """Write a file for each number: a photograph with the number as a comment, so that no two are alike."""
    folder.mkdir(exist_ok=True)
    for number in numbers:
        content, comment = photographs[number % len(photographs)], f"{number:08d}".encode()
        marker = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
        (folder / f"{number:06d}.jpg").write_bytes(content[:2] + marker + content[2:])


def by_pillow(folder: Path) -> None:
    """Read all files as Pillow does it fastest."""

    def small(path: Path) -> bytes:
        with Image.open(path) as image:
            image.draft("RGB", (2 * SIZE, 2 * SIZE))
            return image.resize((SIZE, SIZE), Image.Resampling.BILINEAR).tobytes()

    with ThreadPoolExecutor(available_cpus()) as pool:
        for _ in pool.map(small, sorted(folder.iterdir())):
            pass


def trained(photos: Path, out: Path, count: int) -> None:
    """Train and export a model of the first pictures, for an instant."""
    some = out / "some"
    some.mkdir(parents=True)
    for path in sorted(photos.iterdir())[:count]:
        os.link(path, some / path.name)
    asked = Asked(config=RECIPE)
    progress = Progress(photos=str(photos), asked=asked, image=ImageSpec(channels=3, height=SIZE, width=SIZE))
    silent: Say = lambda _: None  # noqa: E731
    progress = training.prepare(out, some, progress, 2)
    progress = progress.model_copy(update={"recipe": Recipe(source=RECIPE)})
    training.export(out, training.train(out, progress, silent), silent)
    remove(some)


def preparing(photos: Path, out: Path) -> None:
    progress = read(out)
    assert progress is not None
    with tempfile.TemporaryDirectory(dir=out) as folder:
        training.prepare(Path(folder) / "new", photos, progress, 2)


def labelled(photos: Path, out: Path) -> None:
    progress = read(out)
    assert progress is not None
    found = inventory.take(photos, progress.image)
    labelling.label(out, Bundle.load(out / BUNDLE), found, sort.UNSURE, first=True)


def shown(photos: Path, out: Path) -> None:
    page.write(Run(out / RUNS / "sort-1"), out / GALLERY, data=photos, bundle=out / BUNDLE)


def checked(_: Path, out: Path) -> None:
    check(out)


def again(photos: Path, out: Path) -> None:
    sort.sort(photos, out, Asked(), sort.UNSURE, again=False, say=lambda _: None)


def pillow(photos: Path, _: Path) -> None:
    by_pillow(photos)


STAGES = {"preparing": preparing, "labelling": labelled, "gallery": shown, "quality": checked}


Seconds = NDArray[np.float64]
"""Of the clock and of CPU time: (2,)."""


def clocks() -> Seconds:
    """Return seconds of the clock and of CPU time."""
    return np.array([time.perf_counter(), time.process_time()])


def alone(stage: Callable[[Path, Path], None], photos: Path, out: Path) -> tuple[Seconds, float]:
    """Return seconds and MiB at most of a stage in a process of its own, whose start is left out."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_measured, args=(stage, photos, out, theirs))
    process.start()
    theirs.close()
    seconds, peak = mine.recv()
    process.join()
    print(f"{stage.__name__}: {seconds[0]:.1f} s, {seconds[1]:.1f} s of CPU time, {peak:.0f} MiB", file=sys.stderr)
    return seconds, peak


def _measured(stage: Callable[[Path, Path], None], photos: Path, out: Path, pipe: Any) -> None:
    start = clocks()
    stage(photos, out)
    seconds = clocks() - start
    # Not getrusage: there a process begins with what the one that started it had.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    pipe.send((seconds, int(status["VmHWM"].split()[0]) / 1024))


def measure(pictures: str, count: int, num_bases: int, folder: Path) -> dict[str, Any]:
    """Return seconds per 1,000 pictures and MiB of each stage, and what they are to Pillow's reading."""
    photographs = bases(pictures, num_bases)
    photos, out = folder / "photos", folder / "sorted"
    write(photos, photographs, range(count // 4))
    trained(photos, out, 200)
    peaks = {name: [alone(stage, photos, out)[1]] for name, stage in STAGES.items()}
    write(photos, photographs, range(count // 4, count))
    seconds: dict[str, Seconds] = {}
    before, _ = alone(pillow, photos, out)
    for name, stage in STAGES.items():
        seconds[name], peak = alone(stage, photos, out)
        peaks[name].append(peak)
    seconds["pillow"] = (before + alone(pillow, photos, out)[0]) / 2
    progress = read(out)
    assert progress is not None
    progress.model_copy(update={"shown": True}).save(out)
    again(photos, out)
    write(photos, photographs, range(count, count + count // NEW))
    seconds["second"], peak = alone(again, photos, out)
    return {
        "count": count,
        "cpus": available_cpus(),
        "file_kb": round(sum(map(len, photographs)) / len(photographs) / 1000),
        "seconds_per_1000": {name: _rounded(1000 * both / count) for name, both in seconds.items()},
        "seconds_in_all": _rounded(np.sum([seconds[name] for name in STAGES], axis=0)),
        "ratio_to_pillow": {name: _rounded(seconds[name] / seconds["pillow"]) for name in STAGES},
        "peak_mib": {name: [round(value) for value in both] for name, both in peaks.items()} | {"second": round(peak)},
        "bytes_per_picture": {
            name: round((large - small) * 2**20 / (count - count // 4)) for name, (small, large) in peaks.items()
        },
    }


def _rounded(both: Seconds) -> dict[str, float]:
    return dict(zip(("clock", "cpu"), both.round(2).tolist(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--bases", type=int, default=200, help="different photographs")
    parser.add_argument("--folder", type=Path, help="where the files are written, of about 450 kB each")
    parser.add_argument("--out", type=Path, help="a JSON file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        result = measure(arguments.pictures, arguments.count, arguments.bases, Path(folder))
    print(json.dumps(result, indent=2))
    if arguments.out is not None:
        write_json(arguments.out, result)


if __name__ == "__main__":
    main()
