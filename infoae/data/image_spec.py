"""What one image is, for those who make pixels and those who take them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ImageSpec(BaseModel):
    """What one image is: uint8 pixels from 0 to 255, (channels, height, width)."""

    # A bundle holds one: a reader of format 1 must accept what a later writer of format 1 adds, hence "ignore".
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    channels: Literal[1, 3]
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    layout: Literal["CHW"] = "CHW"
    dtype: Literal["uint8"] = "uint8"
    range: tuple[Literal[0], Literal[255]] = (0, 255)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.channels, self.height, self.width
