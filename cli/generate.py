"""`infoae generate`: images of a category, from a bundle."""

from __future__ import annotations

from typing import Annotated

import typer

from infoae.cli.options import (
    DeviceOption,
    JsonOption,
    ModelOption,
    PicturesOption,
    SeedOption,
    at_most,
    echo,
    print_json,
)
from infoae.gpu import Device
from infoae.limits import MAX_IMAGES

_CATEGORY = (
    "Category to make images of: its name or number (number:7 where names are numbers). Repeatable. Default: all."
)


def generate(
    model: ModelOption,
    out: PicturesOption,
    category: Annotated[list[str] | None, typer.Option(metavar="NAME|NUMBER", help=_CATEGORY)] = None,
    count: Annotated[
        int, typer.Option(min=1, callback=at_most(MAX_IMAGES), help="Images to make of each category.")
    ] = 10,
    seed: SeedOption = 0,
    device: DeviceOption = Device.AUTO,
    as_json: JsonOption = False,
) -> None:
    """Make new images of one, several or all categories."""
    from infoae.deploy.generator import Generator
    from infoae.deploy.pictures import Pictures, check_amount, write_pictures

    generator = Generator(model, device)
    manifest = generator.manifest
    chosen = sorted({number for name in category or [] for number in manifest.categories(name)})
    chosen = chosen or list(range(manifest.num_categories))
    check_amount(count, len(chosen), manifest.drawn_image, out)
    made = (
        Pictures(number, images, [{}] * len(images))
        for number in chosen
        for images in generator.batches(number, count, seed)
    )
    num_images = write_pictures(made, manifest, out)
    echo(f"{num_images} images of {len(chosen)} categories in {out}", err=True)
    if as_json:
        print_json({"out": str(out), "num_images": num_images, "categories": chosen, "seed": seed})
