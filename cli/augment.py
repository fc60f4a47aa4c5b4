"""`infoae augment`: new images between images of the same category, from a bundle."""

from __future__ import annotations

from typing import Annotated

import typer

from infoae.cli.inputs import (
    BackgroundOption,
    ColumnOption,
    InputsArgument,
    NullOption,
    RangeOption,
    decode_options,
    tell_of_inputs,
)
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


def augment(
    inputs: InputsArgument,
    model: ModelOption,
    out: PicturesOption,
    count: Annotated[
        int, typer.Option(min=1, callback=at_most(MAX_IMAGES), help="Images to make of each category.")
    ] = 100,
    seed: SeedOption = 0,
    column: ColumnOption = None,
    null: NullOption = False,
    value_range: RangeOption = None,
    background: BackgroundOption = "black",
    device: DeviceOption = Device.AUTO,
    as_json: JsonOption = False,
) -> None:
    """Make new images, each between two of the given images that the model puts in one category.

    Exit code 0: all inputs are used; 3: some are unreadable.
    """
    from infoae.deploy.augment import encode_sources, interpolations
    from infoae.deploy.bundle import Bundle
    from infoae.deploy.classifier import Classifier
    from infoae.deploy.generator import Generator
    from infoae.deploy.pictures import check_amount, write_pictures
    from infoae.inputs.sources import open_sources
    from infoae.reporting.images import progress

    options = decode_options(value_range, background)
    bundle = Bundle.load(model)
    check_amount(count, bundle.manifest.num_categories, bundle.manifest.drawn_image, out)
    sources = open_sources(inputs, bundle.manifest.image, column=column, exclude=out, null=null)
    classifier, generator = Classifier(bundle, device), Generator(bundle, device)
    with progress("encode", None) as advance:
        encoded = encode_sources(sources, classifier, advance, options)
    num_images = write_pictures(interpolations(encoded, generator, count, seed), bundle.manifest, out)
    tell_of_inputs(encoded.passed_over, encoded.peak, value_range)
    echo(f"{num_images} images in {out}, from {len(encoded.keys)} inputs; {encoded.num_failed} unreadable", err=True)
    if as_json:
        result = {"num_images": num_images, "num_inputs": len(encoded.keys), "num_failed": encoded.num_failed}
        print_json({"out": str(out)} | result | {"seed": seed})
    if encoded.num_failed:
        raise typer.Exit(3)
