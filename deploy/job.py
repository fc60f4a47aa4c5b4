"""`infoae classify` on one machine: from the names of inputs to a finished result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from infoae.data.decode import DEFAULTS, DecodeOptions
from infoae.deploy.batch import Summary, classify_sources
from infoae.deploy.bundle import MANIFEST, Bundle
from infoae.deploy.classifier import BATCH_SIZE, Classifier
from infoae.deploy.formats import Csv
from infoae.deploy.rows import RowFormat
from infoae.deploy.sinks import StandardOutput, format_of, open_file
from infoae.inputs.blocks import Source
from infoae.inputs.stored import open_inputs, versions
from infoae.reporting.images import progress


def classify_files(
    inputs: Sequence[str],
    model: Path,
    out: Path | None,
    *,
    columns: str | None = None,
    latent: bool = False,
    column: str | None = None,
    resume: bool = False,
    max_errors: int | None = None,
    device: str = "auto",
    provider: str = "cuda",
    batch_size: int = BATCH_SIZE,
    num_workers: int | None = None,
    null: bool = False,
    decoding: DecodeOptions = DEFAULTS,
    raw_csv: bool = False,
    sources: Sequence[Source] | None = None,
) -> Summary:
    """Classify `inputs` with the bundle `model` into `out` (.csv, .jsonl, .parquet), or as CSV to standard output.

    The arguments are the options of `infoae classify`; `sources` are opened ones, in place of `inputs`. Raises
    InfoAEError, in the end, for anything wrong outside.
    """
    form = None if out is None else format_of(out, raw_csv=raw_csv)
    bundle = Bundle.load(model)
    rows = RowFormat.parse(bundle.manifest, columns, latent)
    if sources is None:
        sources = open_inputs(inputs, bundle.manifest.image, column=column, exclude=out, null=null)
    # One thread each: the CPUs share blocks.
    classifier = Classifier(bundle, device, batch_size=batch_size, num_threads=1, provider=provider)
    counts = [source.count() for source in sources]
    total = None if None in counts else sum(filter(None, counts))
    options: dict[str, Any] = {
        "max_errors": max_errors,
        "block_size": batch_size,
        "num_workers": num_workers,
        "options": decoding,
    }
    if out is None or form is None:
        sink = StandardOutput(Csv(raw=raw_csv), rows.schema)
        with progress("classify", total) as advance:
            return classify_sources(sources, classifier, rows, sink, advance=advance, **options)
    job = describe(bundle, rows, column, decoding, sources) | {"format": out.suffix.lower() + " raw" * raw_csv}
    with open_file(out, form, rows.schema, job, resume=resume) as file:
        parts = tuple(file.parts)
        with progress("classify", total, sum(part.num_rows for part in parts)) as advance:
            return classify_sources(sources, classifier, rows, file, parts=parts, advance=advance, **options)


def describe(
    bundle: Bundle, rows: RowFormat, column: str | None, decoding: DecodeOptions, inputs: Iterable[object]
) -> dict[str, Any]:
    """Return what makes the rows of a job: two jobs that differ here must not be joined into one result.

    "counted" says that its parts have counts, to tell how far the images are from those that the bundle knows;
    "versions" are those of `inputs` (sources and blocks) that lie in an object store.
    """
    # The manifest too: it holds the names, which may change while the graph stays.
    model = [bundle.checksums[file] for file in (bundle.graph("classifier").file, MANIFEST)]
    job = {"model": model, "columns": list(rows.columns), "latent": rows.latent, "column": column}
    if bundle.manifest.reference is not None:
        job["counted"] = True
    if stored := versions(inputs):
        job["versions"] = stored
    return job if decoding == DEFAULTS else job | {"decoding": repr(decoding)}
