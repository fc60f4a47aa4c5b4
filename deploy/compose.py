"""One graph of two: a frozen encoder, and what was trained on its features."""

from __future__ import annotations

import onnx
from onnx import version_converter
from onnx.compose import add_prefix, merge_models

from infoae.errors import InfoAEError, one_line
from infoae.features.graph import FEATURES, MAX_ONNX_BYTES, PICTURES

_PREFIX = "frozen/"


def composed(encoder: onnx.ModelProto, head: onnx.ModelProto, name: str, origin: str) -> onnx.ModelProto:
    """Return `head` (features in) on `encoder` (pictures in, features out) as one graph, whose input is called `name`.

    `encoder` is as `infoae.features.graph.from_pictures` makes it, and is brought to the operators' version of `head`.
    Raises InfoAEError, naming `origin`, if that cannot be, or if all is too large for one graph.
    """
    if encoder.ByteSize() + head.ByteSize() > MAX_ONNX_BYTES:
        raise InfoAEError(f"{origin} is too large for a bundle, whose classifier is one ONNX graph of at most 2 GB")
    wanted = _version(head)
    try:
        frozen = encoder if _version(encoder) == wanted else version_converter.convert_version(encoder, wanted)
        frozen = add_prefix(frozen, _PREFIX)
        head_input = head.graph.input[0].name
        for each in (frozen, head):
            each.ir_version = max(encoder.ir_version, head.ir_version)
        made: onnx.ModelProto = merge_models(frozen, head, io_map=[(_PREFIX + FEATURES, head_input)])
    except Exception as error:  # onnx's exceptions share no base of their own
        raise InfoAEError(
            f"{origin} cannot be put into a bundle: it is of ONNX opset {_version(encoder)}, a bundle of {wanted} "
            f"({one_line(error)}); export it at opset {wanted}"
        ) from None
    for node in made.graph.node:
        node.input[:] = [name if each == _PREFIX + PICTURES else each for each in node.input]
    made.graph.input[0].name = name
    del made.graph.value_info[:]  # can be inferred anew
    made.graph.name = "classifier"
    return made


def _version(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operators."""
    return max(int(each.version) for each in model.opset_import if each.domain in ("", "ai.onnx"))
