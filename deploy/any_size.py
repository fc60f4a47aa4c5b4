"""pixels_any.onnx: decoded pixels of any size -> what classifier.onnx takes, as `infoae.data.decode` makes it.

So that no other language needs to build a resize of its own. The graph holds no weights and takes a few hundred bytes.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from infoae.data.decode import resized
from infoae.data.image_spec import ImageSpec
from infoae.deploy.bundle import GraphSpec, TensorSpec
from infoae.errors import InfoAEError
from infoae.sessions import run_session, session_of

FILE = "pixels_any.onnx"
LEVELS = 1
"""How far a pixel may lie from Pillow's, of 255: Pillow rounds between its two passes, in an order of its own."""
SIZES = ((1, 1), (3, 200), (200, 3), (17, 31), (150, 97))
"""Heights and widths that a graph is verified on, beside the model's own."""

# ITU-R 601 in Pillow's whole numbers (Convert.c); exact for grey, whose three channels are equal.
_GREY = """
    wide = Cast <to = 6> (rgb)
    weights = Constant <value = int32[3] {19595, 38470, 7471}> ()
    weighted = Mul (wide, weights)
    channel = Constant <value_ints = [2]> ()
    sum = ReduceSum (weighted, channel)
    half = Constant <value = int32[1] {32768}> ()
    above = Add (sum, half)
    whole = Constant <value = int32[1] {65536}> ()
    luma = Div (above, whole)
    pixel = Cast <to = 2> (luma)
"""
_COLOUR = """
    pixel = Identity (rgb)
"""
# Weights of pixels outside are left out, and not those of the edge repeated: that is Pillow's filter.
_GRAPH = """
<ir_version: 10, opset_import: ["": 20]>
pixels_any (uint8[height, width, channels] pixels) => (uint8[1, {channels}, {height}, {width}] images) {{
    three = Constant <value_ints = [1, 1, 3]> ()
    rgb = Expand (pixels, three)
    {convert}
    planes = Transpose <perm = [2, 0, 1]> (pixel)
    first = Constant <value_ints = [0]> ()
    image = Unsqueeze (planes, first)
    size = Constant <value_ints = [1, {channels}, {height}, {width}]> ()
    images = Resize <mode = "linear", antialias = 1, exclude_outside = 1,
        coordinate_transformation_mode = "half_pixel"> (image, , , size)
}}
"""


def describe(image: ImageSpec) -> GraphSpec:
    """Return what goes in and out: `pixels` uint8 (height, width, 1 or 3), and one of the classifier's `images`."""
    return GraphSpec(
        file=FILE,
        inputs={"pixels": TensorSpec(dtype="uint8", shape=("height", "width", "channels"))},
        outputs={"images": TensorSpec(dtype="uint8", shape=(1, *image.shape))},
    )


def build(image: ImageSpec) -> onnx.ModelProto:
    """Return the graph that makes `image` of pixels uint8 (height, width, 1 or 3) of any size."""
    channels, height, width = image.shape
    convert = _GREY if channels == 1 else _COLOUR
    text = _GRAPH.format(channels=channels, height=height, width=width, convert=convert)
    made: onnx.ModelProto = onnx.parser.parse_model(text)
    return made


def check(content: bytes, image: ImageSpec) -> int:
    """Return how many levels the graph `content` is from `infoae.data.decode`, at most, on noise of several sizes.

    Raises InfoAEError where they are more than LEVELS.
    """
    session = session_of(content, FILE, "cpu")
    random = np.random.default_rng(0)
    worst = 0
    for height, width in (*SIZES, image.shape[1:]):
        for channels in (1, 3):
            pixels = random.integers(0, 256, (height, width, channels), np.uint8)
            (found,) = run_session(session, ["images"], {"pixels": pixels})
            worst = max(worst, difference(found, pixels, image))
    if worst > LEVELS:
        raise InfoAEError(f"{FILE} is refused: it differs from infoae's own resize by {worst} of 255 levels")
    return worst


def difference(found: NDArray[np.uint8], pixels: NDArray[np.uint8], image: ImageSpec) -> int:
    """Return the largest difference of `found` (1, C, H, W) from what infoae makes of `pixels` (h, w, c)."""
    wanted = resized(np.ascontiguousarray(pixels.transpose(2, 0, 1))[None], image)
    return int(np.abs(found.astype(int) - wanted).max())
