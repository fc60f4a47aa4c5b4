"""pixels_any.onnx makes of pixels of any size what infoae makes of a file of them, within a level."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image

from infoae.data.decode import read_image
from infoae.data.image_spec import ImageSpec
from infoae.deploy import any_size
from infoae.errors import InfoAEError
from infoae.sessions import run_session, session_of

Size = tuple[int, int]
GREY = ImageSpec(channels=1, height=28, width=28)
COLOUR = ImageSpec(channels=3, height=64, width=48)
SHAPES = pytest.mark.parametrize("image", [GREY, COLOUR], ids=["grey", "colour"])


def session(image: ImageSpec) -> Any:
    return session_of(any_size.build(image).SerializeToString(), any_size.FILE, "cpu")


def of_file(pixels: NDArray[np.uint8], image: ImageSpec) -> NDArray[np.uint8]:
    """What infoae reads from a file of `pixels` (h, w, c)."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(buffer, "BMP")
    return read_image(buffer.getvalue(), *image.shape)


def levels_apart(image: ImageSpec, sizes: Iterable[Size]) -> list[int]:
    """How far the graph is from infoae on pictures of `sizes`: noise, edges and slopes, grey and in colour."""
    graph, random, apart = session(image), np.random.default_rng(0), []
    for number, (height, width) in enumerate(sizes):
        channels = (1, 3)[number % 2]
        pixels = random.integers(0, 256, (height, width, channels), np.uint8)
        if number % 3 == 1:
            pixels = np.where(pixels < 128, 0, 255).astype(np.uint8)
        elif number % 3 == 2:
            pixels = (np.indices(pixels.shape).sum(0) * 3 % 256).astype(np.uint8)
        (found,) = run_session(graph, ["images"], {"pixels": pixels})
        assert found.shape == (1, *image.shape)
        apart.append(int(np.abs(found[0].astype(int) - of_file(pixels, image)).max()))
    return apart


def random_sizes(number: int, largest: int) -> list[Size]:
    """Heights and widths of 1 to `largest`, small ones as often as large ones."""
    sizes = np.exp(np.random.default_rng(1).uniform(0, np.log(largest + 1), (number, 2))).astype(int)
    return [(int(height), int(width)) for height, width in sizes]


@SHAPES
def test_a_level_at_most_from_what_infoae_reads(image: ImageSpec) -> None:
    own = image.shape[1:]
    apart = levels_apart(image, [own, own, (1, 1), (1, 300), (300, 1), (28, 64), *random_sizes(24, 500)])
    assert apart[:2] == [0, 0]  # nothing to resize
    assert max(apart) <= any_size.LEVELS


@pytest.mark.long
@SHAPES
def test_a_level_at_most_on_a_thousand_sizes(image: ImageSpec) -> None:
    assert max(levels_apart(image, random_sizes(1000, 1500))) <= any_size.LEVELS


def test_grey_is_exactly_pillows() -> None:
    """Every 61st of all colours, of the model's own size: none is off by a level."""
    image = ImageSpec(channels=1, height=522, width=526)
    values = np.arange(522 * 526) * 61
    pixels = np.stack([values >> 16, values >> 8 & 255, values & 255], 1).astype(np.uint8).reshape(522, 526, 3)
    (found,) = run_session(session(image), ["images"], {"pixels": pixels})
    np.testing.assert_array_equal(found[0], of_file(pixels, image))


@SHAPES
def test_the_graph_is_as_described_and_small(image: ImageSpec) -> None:
    graph, spec = any_size.build(image), any_size.describe(image)
    onnx.checker.check_model(graph, full_check=True)
    assert graph.ByteSize() < 1000
    for values, described in ((graph.graph.input, spec.inputs), (graph.graph.output, spec.outputs)):
        shapes = {
            value.name: tuple(size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim)
            for value in values
        }
        assert shapes == {name: tensor.shape for name, tensor in described.items()}


@pytest.mark.parametrize("channels", [2, 4])
def test_other_channels_are_an_error(channels: int) -> None:
    with pytest.raises(InfoAEError, match="Expand"):
        run_session(session(GREY), ["images"], {"pixels": np.zeros((5, 5, channels), np.uint8)})


def test_another_filter_is_refused() -> None:
    """One that repeats the edge outside of the picture."""
    graph = any_size.build(GREY)
    assert any_size.check(graph.SerializeToString(), GREY) <= any_size.LEVELS
    (resize,) = (node for node in graph.graph.node if node.op_type == "Resize")
    (outside,) = (each for each in resize.attribute if each.name == "exclude_outside")
    outside.i = 0
    with pytest.raises(InfoAEError, match=r"pixels_any.onnx is refused: it differs .* by \d+ of 255 levels"):
        any_size.check(graph.SerializeToString(), GREY)
