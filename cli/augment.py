"""`infoae augment`: new images between images of the same category, from a bundle."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from infoae.cli.classify import AsJson, Column, Inputs, Model, OnDevice
from infoae.cli.generate import Out, Seed
from infoae.deploy.onnx_session import Device


def augment(
    inputs: Inputs,
    model: Model,
    out: Out,
    count: Annotated[int, typer.Option(min=1, help="Images of each category.")] = 100,
    seed: Seed = 0,
    column: Column = None,
    device: OnDevice = Device.AUTO,
    as_json: AsJson = False,
) -> None:
    """Make images of each category by interpolating between inputs of that category, and write them with it."""
    from infoae.deploy.augment import encode_sources, interpolations
    from infoae.deploy.bundle import Bundle
    from infoae.deploy.classifier import Classifier
    from infoae.deploy.generator import Generator
    from infoae.deploy.pictures import write_pictures
    from infoae.deploy.sources import open_sources
    from infoae.reporting.images import progress

    bundle = Bundle.load(model)
    sources = open_sources(inputs, bundle.manifest.image, column=column, exclude=out)
    classifier, generator = Classifier(bundle, device), Generator(bundle, device)
    with progress("encode", None) as advance:
        encoded = encode_sources(sources, classifier, advance)
    num_images = write_pictures(interpolations(encoded, generator, count, seed), bundle.manifest, out)
    typer.echo(
        f"{num_images} images in {out}, from {len(encoded.keys)} inputs; {encoded.num_failed} unreadable", err=True
    )
    if as_json:
        result = {"num_images": num_images, "num_inputs": len(encoded.keys), "num_failed": encoded.num_failed}
        typer.echo(json.dumps({"out": str(out)} | result | {"seed": seed}))
    if encoded.num_failed:
        raise typer.Exit(3)
