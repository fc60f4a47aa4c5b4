"""`infoae generate`: images of a category, from a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from infoae.cli.classify import AsJson, Model, OnDevice
from infoae.deploy.onnx_session import Device

_CATEGORY = "All categories of a name, or one by its number (number:7 if names are numbers); repeatable. Default: all."

Out = Annotated[
    Path,
    typer.Option(
        metavar="DIR|FILE.npz", help="A new folder of <category>/<number>.png and index.csv, or an .npz file."
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same images.")]


def generate(
    model: Model,
    out: Out,
    category: Annotated[list[str] | None, typer.Option(help=_CATEGORY)] = None,
    count: Annotated[int, typer.Option(min=1, help="Images of each category.")] = 10,
    seed: Seed = 0,
    device: OnDevice = Device.AUTO,
    as_json: AsJson = False,
) -> None:
    """Make new images of one, several or all categories."""
    from infoae.deploy.generator import Generator
    from infoae.deploy.pictures import Pictures, write_pictures

    generator = Generator(model, device)
    manifest = generator.manifest
    chosen = sorted({number for name in category or [] for number in manifest.categories(name)})
    chosen = chosen or list(range(manifest.num_categories))
    made = (Pictures(number, generator.generate(number, count, seed), [{}] * count) for number in chosen)
    num_images = write_pictures(made, manifest, out)
    typer.echo(f"{num_images} images of {len(chosen)} categories in {out}", err=True)
    if as_json:
        typer.echo(json.dumps({"out": str(out), "num_images": num_images, "categories": chosen, "seed": seed}))
