"""The bundle: a folder that holds a model as ONNX graphs and everything needed to use them. See docs/bundle.md.

The run-time half: no torch. What is hashed is what is used: a file's bytes are read once, checked, and handed over.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from infoae.data.decode import DecodeOptions
from infoae.data.image_spec import ImageSpec
from infoae.data.sound import SoundSpec
from infoae.deploy.reference import Reference
from infoae.errors import InfoAEError, one_line, shown
from infoae.files import atomic_file

FORMAT = 1
"""The newest bundle format that this version writes and reads."""
MANIFEST = "bundle.json"
CHECKSUMS = "SHA256SUMS"
SAMPLE = "sample_io.npz"


class _Section(BaseModel):
    # A reader of format 1 must accept what a later writer of format 1 adds, hence "ignore".
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class TensorSpec(_Section):
    """An input or output of a graph; a dimension is a number, or a name where it varies."""

    dtype: str
    shape: tuple[int | str, ...]


class GraphSpec(_Section):
    """An ONNX file of the bundle and what goes in and out of it, by name."""

    file: str
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]

    @field_validator("file")
    @classmethod
    def _plain_name(cls, file: str) -> str:
        if file in ("", ".", "..") or "/" in file or "\\" in file:
            raise ValueError("a graph's file must be a plain name inside the bundle")
        return file


class RunSpec(_Section):
    """The training run that the model comes from."""

    name: str
    step: int
    config: dict[str, Any]


class Correction(_Section):
    """How the categories follow from those of another run."""

    of: str
    """Name of the run that was corrected."""
    new_numbers: dict[int, tuple[int, ...]]
    """Category of that run -> the new ones that its pictures go to."""


class Manifest(_Section):
    """The content of bundle.json."""

    format: Literal[1] = 1
    infoae_version: str
    image: ImageSpec
    """What the classifier takes."""
    drawn: ImageSpec | None = None
    """What decoder and generator draw; as `image` if not given."""
    sound: SoundSpec | None = None
    """By which numbers the pictures trained on were made from sound; None if they were not."""
    reduced_jpeg: bool = False
    """Whether large JPEG files were decoded at a part of their size, and are; not so in bundles of before."""
    num_categories: int = Field(gt=0)
    latent_dim: int = Field(gt=0)
    noise_dim: int = Field(ge=0)
    noise_range: tuple[float, float] = (-1, 1)
    category_names: tuple[str, ...]
    precision: Literal["fp32", "fp16", "int8"]
    opset: int
    files: dict[Literal["classifier", "decoder", "generator"], GraphSpec]
    pixels_any: GraphSpec | None = None
    """Pixels of any size -> what the classifier takes; None in bundles of before. infoae itself resizes with Pillow."""
    missing: dict[str, str] = {}
    """Why the method of the model has no decoder or no generator."""
    run: RunSpec
    corrected: Correction | None = None
    """Where the categories come from, if a person corrected the run."""
    accuracy: float | None = None
    parity: dict[str, Any] = {}
    reference: Reference | None = None
    """How the run's test images are answered; None in a bundle of an earlier infoae."""

    @model_validator(mode="after")
    def _one_name_each(self) -> Self:
        if len(self.category_names) != self.num_categories:
            raise ValueError(f"{len(self.category_names)} category_names for {self.num_categories} categories")
        return self

    @model_validator(mode="after")
    def _sizes_are_those_of_the_graphs(self) -> Self:
        """No size is believed that a graph does not have, too: answers of that size are allocated before it runs."""
        sizes: dict[str, tuple[int, ...]] = {
            "probabilities": (self.num_categories,),
            "latent": (self.latent_dim,),
            "noise": (self.noise_dim,),
        }
        for graph in self.files.values():
            sizes["images"] = self.image.shape if "images" in graph.inputs else self.drawn_image.shape
            for name, tensor in (*graph.inputs.items(), *graph.outputs.items()):
                if name in sizes and tensor.shape[1:] != sizes[name]:
                    raise ValueError(f"{graph.file} has {name} {tensor.shape[1:]}, not {sizes[name]}")
        return self

    @model_validator(mode="after")
    def _reference_is_of_the_categories(self) -> Self:
        if self.reference is not None and len(self.reference.counts.occupancy) != self.num_categories:
            raise ValueError(f"the reference must have {self.num_categories} categories")
        return self

    @property
    def drawn_image(self) -> ImageSpec:
        """What decoder and generator draw."""
        return self.drawn or self.image

    def decoding(self, options: DecodeOptions) -> DecodeOptions:
        """Return `options` with which files become such pictures as were trained on; sounds may be refused."""
        return replace(options, sound=self.sound, reduced_jpeg=self.reduced_jpeg)

    @field_validator("noise_range")
    @classmethod
    def _from_low_to_high(cls, noise_range: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= noise_range[1] - noise_range[0] < math.inf:
            raise ValueError("the lower end comes first")
        return noise_range

    def categories(self, wanted: str) -> list[int]:
        """Return the categories that are called `wanted`, or else the one of that number.

        `number:7` is always category 7. Where names are numbers themselves, as of digits, a mere number is a name and
        nothing else: category 7 need not be the sevens. Raises InfoAEError where there is none.
        """
        named = [number for number, name in enumerate(self.category_names) if name == wanted]
        if named:
            return named
        spelling = "number:" if any(name.isdecimal() for name in self.category_names) else ""
        number = wanted.removeprefix("number:")
        if re.fullmatch(r"\d{1,9}", number) and int(number) < self.num_categories and wanted.startswith(spelling):
            return [int(number)]
        known = ", ".join(self.category_names[:20]) + (", …" if self.num_categories > 20 else "")
        last = self.num_categories - 1
        raise InfoAEError(
            f"no category {shown(wanted)}: give one of {known}, or its number, {spelling}0 to {spelling}{last}"
        )


@dataclass(frozen=True)
class Bundle:
    """A bundle whose manifest has been read and checked.

    Attributes: `path`, the folder; `manifest`; `checksums`, the SHA-256 of each file by name; `held`, the bytes of
    files that are in memory.
    """

    path: Path
    manifest: Manifest
    checksums: Mapping[str, str]
    held: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, path: str | Path) -> Bundle:
        """Read the bundle in the folder `path`.

        Raises InfoAEError where there is none, it is damaged, or a newer infoae made it.
        """
        path = Path(path)
        if not (path / MANIFEST).is_file():
            raise InfoAEError(f"no bundle at {path}: give the folder that `infoae export --onnx` wrote")
        checksums = _read_checksums(path)
        content = _read_checked(path, MANIFEST, checksums)
        try:
            fields = json.loads(content)
            made_in = fields.get("format") if isinstance(fields, dict) else None
            if isinstance(made_in, int) and made_in > FORMAT:
                raise InfoAEError(f"bundle {path} was made by a newer infoae (format {made_in}); upgrade")
            manifest = Manifest.model_validate(fields)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InfoAEError(f"bundle {path}: {MANIFEST}: {where}: {first['msg']}; export it again") from error
        except ValueError as error:
            raise InfoAEError(f"bundle {path}: {MANIFEST} is not JSON ({one_line(error)}); export it again") from error
        return cls(path, manifest, checksums)

    def read(self, name: str) -> bytes:
        """Return the bytes of the bundle's file `name`. Raises InfoAEError if they are not those that export wrote."""
        return self.held[name] if name in self.held else _read_checked(self.path, name, self.checksums)

    def with_classifier(self) -> Bundle:
        """Return the bundle with what a Classifier reads in memory, for a machine that does not see the folder.

        Raises InfoAEError as `read` does.
        """
        return replace(self, held={name: self.read(name) for name in (self.graph("classifier").file, SAMPLE)})

    def graph(self, role: Literal["classifier", "decoder", "generator"]) -> GraphSpec:
        """Return what the manifest says of the graph `role`. Raises InfoAEError if the bundle has none."""
        if role not in self.manifest.files:
            reason = self.manifest.missing.get(role)
            raise InfoAEError(f"bundle {self.path} has no {role}{f': {reason}' if reason else '; export it again'}")
        return self.manifest.files[role]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write bundle.json into `folder`, the same bytes for the same manifest."""
    with atomic_file(folder / MANIFEST) as temporary:
        temporary.write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8", newline="\n")


def write_checksums(folder: Path) -> None:
    """Write SHA256SUMS over every other file below `folder`, as `sha256sum --check` reads it: export's last step."""
    files = (file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    names = sorted(name for name in files if name != CHECKSUMS)
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    with atomic_file(folder / CHECKSUMS) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8", newline="\n")


def _read_checksums(path: Path) -> dict[str, str]:
    try:
        lines = (path / CHECKSUMS).read_text(encoding="utf-8").splitlines()
        return {name.lstrip("*"): digest.lower() for digest, name in (line.split(maxsplit=1) for line in lines)}
    except (OSError, ValueError) as error:
        raise InfoAEError(f"bundle {path}: {CHECKSUMS} is missing or damaged; export it again") from error


def _read_checked(path: Path, name: str, checksums: Mapping[str, str]) -> bytes:
    try:
        content = (path / name).read_bytes()
    except OSError as error:
        raise InfoAEError(f"bundle {path}: cannot read {name} ({one_line(error)}); export it again") from error
    if hashlib.sha256(content).hexdigest() != checksums.get(name):
        raise InfoAEError(f"bundle {path}: {name} is not the file that export wrote (SHA-256); export it again")
    return content
