"""`infoae classify --ray`: the same classification as a Ray Data pipeline over a cluster.

The inputs are cut into shards; each is one Parquet file of the result, named by its place. An actor holds a classifier
and writes its shards atomically, so a shard that is done twice (a lost node, a second run) is still there once. The
result is made in the hidden folder of its job (see `job_folder`), which becomes the result, or in an object store (see
`job_store`). Inputs and a result that are no addresses must lie where every node sees them under the same path; the
bundle is sent to the nodes. Where nodes have the label of `placement.CLASSIFIES`, those alone classify.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import pickle
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from pyarrow import parquet
from ray.data import ActorPoolStrategy, DataContext

from infoae.addresses import is_address
from infoae.cluster import placement, ray_metrics
from infoae.cluster.connect import VARIABLE, Request, connected, quiet
from infoae.data.decode import DEFAULTS, DecodeOptions
from infoae.data.unreadable import UnreadableImageError, unreadable
from infoae.deploy import drift
from infoae.deploy.batch import Summary, check_errors
from infoae.deploy.bundle import Bundle
from infoae.deploy.classifier import BATCH_SIZE, Classifier
from infoae.deploy.job import describe
from infoae.deploy.job_folder import Job, open_job
from infoae.deploy.job_store import StoredJob, result_address
from infoae.deploy.reference import Counts
from infoae.deploy.rows import RowFormat
from infoae.errors import InfoAEError, one_line
from infoae.files import write_json
from infoae.inputs.decoding import check_any, decode, largest
from infoae.inputs.parts import Part, absolute, blocks_of, digest_of, parts_of
from infoae.inputs.stored import open_inputs
from infoae.reporting.images import progress

SHARD_ROWS = 8192
"""Single files are gathered into shards of so many."""

DRIFT = "_drift.json"
"""In the result: how far its images are from those that the bundle knows."""


def classify_on_ray(
    inputs: Sequence[str],
    model: Path,
    out: Path | str,
    *,
    columns: str | None = None,
    latent: bool = False,
    column: str | None = None,
    resume: bool = False,
    max_errors: int | None = None,
    device: str = "auto",
    provider: str = "cuda",
    batch_size: int = BATCH_SIZE,
    null: bool = False,
    decoding: DecodeOptions = DEFAULTS,
) -> Summary:
    """Classify `inputs` into the folder `out`, a path or an address; one Parquet file a shard, in input order by name.

    `_drift.json` in it says how far the images are from those that the bundle knows. Uses the cluster that Ray is
    connected to, else the one at RAY_ADDRESS, else one started here. A folder appears when all is done. Raises
    InfoAEError as classify_files does.
    """
    out = result_address(str(out), inputs) if is_address(str(out)) else Path(out).resolve()
    bundle = Bundle.load(model)
    rows = RowFormat.parse(bundle.manifest, columns, latent)
    sources = open_inputs(inputs, bundle.manifest.image, column=column, exclude=_path(out), null=null)
    shards = [absolute(shard) for shard in parts_of(sources, SHARD_ROWS)]
    if not shards:
        raise InfoAEError("the inputs hold no images")
    description = describe(bundle, rows, column, decoding, shards) | {"inputs": digest_of(shards)}
    with _opened(out) as job:
        done = _finished(job, len(shards), description, resume=resume)
        work = _Work(bundle.with_classifier(), rows, job, device, provider, batch_size, decoding)
        summary = _run(work, shards, done, max_errors)
        if summary.drift is not None:
            with job.writing(DRIFT) as file:
                write_json(file, summary.drift.to_dict())
        job.become_result()
    return summary


@dataclass(frozen=True)
class _Work:
    """What an actor needs to know."""

    bundle: Bundle
    rows: RowFormat
    job: Job
    device: str
    provider: str
    batch_size: int
    decoding: DecodeOptions


class _ShardClassifier:
    """An actor: one classifier on one CPU, and a shard at a time."""

    def __init__(self, work: _Work) -> None:
        self._work = work

    @functools.cached_property
    def _classifier(self) -> Classifier:
        work = self._work
        return Classifier(work.bundle, work.device, batch_size=work.batch_size, num_threads=1, provider=work.provider)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Take one shard; what is wrong outside comes back as a row, for Ray would wrap an exception in its own."""
        try:
            # Made by the driver of this very job; Ray would pickle it all the same.
            shard = pickle.loads(batch["shard"][0])  # noqa: S301
            done = self._classify(int(batch["number"][0]), shard)
        except (InfoAEError, OSError) as error:
            return {"done": [""], "error": [str(error)]}
        return {"done": [json.dumps(done)], "error": [""]}

    def _classify(self, number: int, shard: Part) -> dict[str, Any]:
        work, image = self._work, self._classifier.manifest.image
        decoding = self._classifier.manifest.decoding(work.decoding)
        num_rows, num_failed, peak = 0, 0, None
        passed_over: Counter[str] = Counter()
        seen = Counts()
        with (
            work.job.writing(_name(number)) as temporary,
            parquet.ParquetWriter(temporary, work.rows.schema, write_page_checksum=True) as writer,
        ):
            for block in blocks_of(shard, work.batch_size):
                decoded = decode(block, image, decoding)
                answers = self._classifier.classify(decoded.images)
                seen += drift.counted(self._classifier.manifest, answers)
                writer.write_batch(work.rows.batch(decoded.keys, answers, decoded.errors))
                num_rows += len(block)
                num_failed += len(block) - len(answers)
                ray_metrics.ROWS.add(len(block), result=work.job.name)
                ray_metrics.ROW_ERRORS.add(len(block) - len(answers), result=work.job.name)
                passed_over += decoded.passed_over
                peak = largest(peak, decoded.peak)
            done = {"num_rows": num_rows, "num_failed": num_failed, "passed_over": passed_over, "peak": peak}
            done["seen"] = seen.model_dump()
            writer.add_key_value_metadata({"done": json.dumps(done)})
        return done


def _run(work: _Work, shards: list[Part], done: dict[int, dict[str, Any]], max_errors: int | None) -> Summary:
    """Classify the `shards` that are not `done` yet: what each gave, by number."""
    start = time.monotonic()
    summary, seen = Summary(0, 0, 0, 0.0), Counts()
    for shard in done.values():
        summary = _added(summary, shard)
        seen += _seen(shard)
    summary = replace(summary, num_resumed=summary.num_rows)
    check_errors(summary.num_failed, summary.num_rows, max_errors)
    todo = [
        {"number": number, "shard": pickle.dumps(shard)} for number, shard in enumerate(shards) if number not in done
    ]
    if todo:
        with closing(_pipeline(work, todo, summary.num_resumed)) as finished:
            for shard in finished:
                summary = _added(summary, shard)
                seen += _seen(shard)
                check_errors(summary.num_failed, summary.num_rows, max_errors)
    check_any(summary.num_rows, summary.passed_over)
    seconds = time.monotonic() - start
    return replace(summary, seconds=seconds, drift=drift.measured(work.rows.manifest, seen))


def _seen(shard: dict[str, Any]) -> Counts:
    return Counts.model_validate(shard.get("seen", {}))  # a shard of an earlier infoae was not counted


def _added(summary: Summary, shard: dict[str, Any]) -> Summary:
    return replace(
        summary,
        num_rows=summary.num_rows + shard["num_rows"],
        num_failed=summary.num_failed + shard["num_failed"],
        passed_over=summary.passed_over + Counter(shard["passed_over"]),
        peak=largest(summary.peak, shard["peak"]),
    )


def _pipeline(work: _Work, todo: list[dict[str, Any]], resumed: int) -> Generator[dict[str, Any]]:
    """Run the shards `todo` over the cluster and yield what each gave as it is finished."""
    with connected(Request(address=os.environ.get(VARIABLE) or None), work.job.log):
        yield from _classified(work, todo, resumed)


def _classified(work: _Work, todo: list[dict[str, Any]], resumed: int) -> Iterator[dict[str, Any]]:
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    where = placement.classifiers(work.device)
    dataset = ray.data.from_items(todo, override_num_blocks=len(todo)).map_batches(
        _ShardClassifier,
        fn_constructor_args=(work,),
        batch_size=1,
        compute=ActorPoolStrategy(min_size=1, max_size=min(len(todo), where.cpus)),
        num_cpus=1,
        num_gpus=1 if work.device == "cuda" else 0,
        label_selector=where.label,
    )
    try:
        # Ray tells of lost workers on standard output, which is that of --json.
        with progress("classify", None, resumed) as advance, quiet(work.job.log):
            for row in dataset.iter_rows():
                if row["error"]:
                    raise InfoAEError(f"on a node of the cluster: {row['error']}")
                done = json.loads(row["done"])
                advance(done["num_rows"])
                yield done
    except ray.exceptions.RayTaskError:
        raise  # an error of ours, whose trace is wanted
    except ray.exceptions.RayError as error:
        raise InfoAEError(f"Ray: {type(error).__name__}: {one_line(error, first=True)}") from error


def _path(out: Path | str) -> Path | None:
    return out if isinstance(out, Path) else None


@contextmanager
def _opened(out: Path | str) -> Iterator[Job]:
    if isinstance(out, str):
        yield StoredJob(out)
        return
    if out.exists():
        raise InfoAEError(f"{out} exists already: delete it, or give another --out")
    with open_job(out) as folder:
        yield folder


def _name(number: int) -> str:
    return f"part-{number:06d}.parquet"


def _finished(job: Job, num_shards: int, description: dict[str, Any], *, resume: bool) -> dict[int, dict[str, Any]]:
    """Take the job's place, and return what each shard gave that an interrupted run has finished."""
    names = job.names()
    numbers = [number for number in range(num_shards) if _name(number) in names]
    stored = f"{len(numbers)} of {num_shards} shards" if any(name.startswith("part-") for name in names) else None
    job.take(description, stored=stored, resume=resume, differences="model, names, columns, --column or inputs")
    return {number: _counts(job, _name(number)) for number in numbers}


def _counts(job: Job, name: str) -> dict[str, Any]:
    """Return what a shard gave; all of its file is read to see that it is whole. Raises InfoAEError."""
    try:
        with (
            unreadable(),
            job.reading(name) as content,
            parquet.ParquetFile(content, page_checksum_verification=True) as stored,
        ):
            done: dict[str, Any] = json.loads((stored.metadata.metadata or {})[b"done"])
            if sum(len(rows) for rows in stored.iter_batches()) != done["num_rows"]:
                raise ValueError("rows are missing")
    except UnreadableImageError as error:
        raise InfoAEError(f"{job.place}/{name} is damaged ({error}): delete it and repeat with --resume") from error
    return done
