"""The section that says which frozen encoder a person has given: what infoae's own encoder sees in place of pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field

from infoae.config.kinds import AtMost, PositiveInt, Section
from infoae.limits import MAX_IMAGE_SIZE

TORCHVISION = "torchvision:"
"""How the name of a network of torchvision begins."""


class Features(Section):
    """Features of a frozen encoder of one's own; not in the paper."""

    encoder: Annotated[str, Field(min_length=1)] | None = None
    """Frozen encoder: an ONNX file, torchvision:NAME, or a .npy file with a row of features for each image; none if not
    given."""
    size: Annotated[int, Field(ge=1), AtMost(MAX_IMAGE_SIZE)] | None = None
    """Pixels of a side that images are given for the encoder, where its file leaves that open."""
    output: str | None = None
    """Output of the ONNX file that holds the features, where there are several."""
    download: bool = False
    """Whether torchvision may download the weights of torchvision:NAME."""
    dim: PositiveInt | None = None
    """D, values of a feature vector; taken from the encoder if not given."""
    digest: str | None = None
    """Hash of the encoder and its preprocessing; taken from the encoder if not given, and compared with it later."""

    @property
    def of_torchvision(self) -> str | None:
        """The NAME of torchvision:NAME."""
        name = self.encoder or ""
        return name.removeprefix(TORCHVISION) if name.startswith(TORCHVISION) else None

    @property
    def precomputed(self) -> bool:
        """Whether features lie in a file, so that no other picture has any."""
        return self.encoder is not None and self.encoder.lower().endswith(".npy")

    def absolute(self) -> Self:
        """Return the same encoder by an absolute path: a resumed run, a trial or a worker may be in another folder."""
        if self.encoder is None or self.encoder.startswith(TORCHVISION):
            return self
        return self.model_copy(update={"encoder": str(Path(self.encoder).expanduser().resolve())})
