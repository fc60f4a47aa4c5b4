"""The bundled MNIST: the four original files, verified by MD5 each time they are read."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from infoae.data.idx import parse_idx
from infoae.errors import InfoAEError, one_line

MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def read(name: str) -> NDArray[np.uint8]:
    """Return one of the four files' values. Raises InfoAEError if it is missing or not the original."""
    path = files("infoae") / "data" / "mnist" / f"{name}.gz"
    try:
        content = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise InfoAEError(f"the bundled MNIST file {path} is missing: reinstall infoae") from None
    except (OSError, EOFError, zlib.error) as error:
        raise InfoAEError(
            f"the bundled MNIST file {path} cannot be read ({one_line(error)}): reinstall infoae"
        ) from None
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != MD5[name]:
        raise InfoAEError(f"the bundled MNIST file {path} is not the original (MD5 differs): reinstall infoae")
    return parse_idx(content)
