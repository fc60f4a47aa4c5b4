"""The section that says how images are augmented: a kind, which is a recipe of numbers, and the numbers themselves."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, TypeAlias, get_args

from pydantic import Field, ModelWrapValidatorHandler, model_validator

from infoae.config.kinds import Pixels, Section

Kind: TypeAlias = Literal["strokes", "objects", "textures", "sound", "none"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Fraction = Annotated[float, Field(ge=0, le=1)]
Part = Annotated[float, Field(ge=0, lt=1)]


class Augment(Section):
    """How an image's partner is changed, drawn per image; 0 is not at all. Too much changes what an image is.

    `kind` sets every number that is not given; those that are given win. `--set augment.kind=...` sets those of a
    recipe or a stored configuration, too: it begins the section anew, and only what `--set` gives beside it wins.
    """

    kind: Kind = "strokes"
    """Kind of the images, which sets the numbers that are not given: strokes (writing), objects (photographs), textures
    (no side is up), sound (spectrograms; time runs along the width), or none, which changes nothing."""
    degrees: Annotated[float, Field(ge=0, le=180)] = 10.0
    """Rotation, up to so many degrees either way."""
    translate: Fraction = 0.1
    """Shift, up to this fraction of the side either way."""
    scale: Part = 0.1
    """Zoom, up to this fraction either way."""
    shear: Fraction = 0.1
    """Horizontal shear, up to this factor either way."""
    crop: Part = 0.0
    """Crop: up to this fraction of the side is cut off at random, and the rest enlarged."""
    flip: Fraction = 0.0
    """Probability of a horizontal mirror."""
    time_shift: Fraction = 0.0
    """Shift along the width alone, the time of a spectrogram, up to this fraction of it either way."""
    outside: Literal["black", "mirror"] = "black"
    """What enters from outside the image: black, or its own mirror image."""
    blur: Pixels = 0.0
    """Gaussian blur of so many pixels, mixed in by a random share."""
    elastic: Pixels = 0.0
    """Elastic distortion: each place moves by up to so many pixels either way, smoothly between 5 x 5 points."""
    colour: Fraction = 1.0
    """Probability that brightness, contrast, saturation and hue change at all."""
    brightness: Fraction = 0.0
    """Brightness: factor of all values, up to this far from 1 either way."""
    contrast: Fraction = 0.0
    """Contrast: factor of the distance from the image's mean grey, up to this far from 1 either way."""
    saturation: Fraction = 0.0
    """Saturation of RGB images: factor of the distance from grey, up to this far from 1 either way."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Hue of RGB images: colours turn by up to this part of a whole turn either way."""
    grey: Fraction = 0.0
    """Probability that an RGB image loses its colours."""
    time_mask: Part = 0.0
    """Up to this fraction of the width, the time of a spectrogram, is blanked: columns side by side."""
    frequency_mask: Part = 0.0
    """Up to this fraction of the height, the frequencies of a spectrogram, is blanked: rows side by side."""

    @model_validator(mode="wrap")
    @classmethod
    def _kind_sets_what_is_not_given(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(given, dict) or given.get("kind") not in KINDS:  # refused by the key, or nothing to set
            return handler(given)
        made = handler({**RECIPES[given["kind"]], **given})
        made.model_fields_set.intersection_update(given)  # which settings of other methods are refused by
        return made


_NOTHING: dict[str, Any] = {"degrees": 0.0, "translate": 0.0, "scale": 0.0, "shear": 0.0}

RECIPES: Mapping[Kind, dict[str, Any]] = MappingProxyType(
    {
        "strokes": {},
        "objects": _NOTHING
        | {
            "crop": 0.55,
            "flip": 0.5,
            "outside": "mirror",
            "colour": 0.8,
            "brightness": 0.4,
            "contrast": 0.4,
            "saturation": 0.4,
            "hue": 0.1,
            "grey": 0.2,
        },
        "textures": _NOTHING | {"degrees": 180.0, "crop": 0.3, "flip": 0.5, "outside": "mirror"},
        "sound": _NOTHING | {"time_shift": 0.1, "time_mask": 0.2, "frequency_mask": 0.2},
        "none": _NOTHING,
    }
)
"""What each kind sets; a number that it does not name has its default.

objects are those of SimCLR for CIFAR-10 (Chen et al. 2020, appendix B.9: colours at half strength, no blur), cropped to
a fifth of the area at least, as by SCAN (Van Gansbeke et al. 2020). Our crop is square, and it is its side that is
uniform. Larger pictures, of 64 pixels and more, may take a `blur`, too. sound has the masks of SpecAugment's mild
policy for Switchboard (Park et al. 2019, SM: 15 of 80 frequencies, a fifth of the time), one of each. The numbers of
strokes and textures are our own.
"""
