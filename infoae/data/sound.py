"""A sound of any length as one grey picture: its log-mel spectrogram, low frequencies below, time to the right.

The rule, in the order in which it is applied; the numbers are those of `SoundSpec`:

- format: WAV, FLAC and OGG (Vorbis, Opus), told by content, never by name, and read by libsndfile;
- channels are averaged;
- of a sound longer than `seconds` the loudest part of that length is taken;
- it is resampled to `sample_rate`, by soxr;
- power in frames of `window` samples (Hann), every `hop` samples, centred; the sound is silent before and after itself;
- `bands` triangles of height 1, equally wide on the mel scale (2595 log10(1 + f / 700)), from `lowest_hz` to
  `highest_hz`;
- frames at both ends that are more than `trim_decibels` below the loudest frame are cut off;
- the loudest value is white (255), `decibels` below it and less are black (0), linear in decibels between them. So
  loudness is not seen, and silence is black.

What becomes of that picture is what becomes of any (`infoae.data.decode`): resized, so time is stretched to the width.

Needs Pillow, NumPy, soundfile and soxr.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, model_validator

from infoae.data.stored_shards import beside
from infoae.data.unreadable import UnreadableImageError, unreadable
from infoae.errors import InfoAEError, one_line
from infoae.files import write_json
from infoae.limits import MAX_SAMPLES

DESCRIPTION = "sound.json"
"""The file beside shards whose pictures were made from sound: by which numbers."""
LOWEST_RATE, HIGHEST_RATE = 1000, 384_000
"""Samples a second of a sound that is read."""
MOST_CHANNELS = 32
_SAMPLES_AT_ONCE = 1 << 20
_LOUDNESS_STEPS = 100
"""The loudest part begins at one of so many places a second."""


class SoundSpec(BaseModel):
    """The numbers by which a sound becomes a picture; the defaults are those of every training."""

    # A bundle holds one: "ignore" as in ImageSpec, and bounds, for no size that a file states is believed.
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    sample_rate: int = Field(16_000, ge=LOWEST_RATE, le=HIGHEST_RATE)
    """Hz."""
    seconds: float = Field(10.0, ge=0.1, le=3600)
    window: int = Field(512, ge=16, le=65_536)
    """Samples: 32 ms."""
    hop: int = Field(160, ge=16, le=65_536)
    """Samples: 10 ms."""
    bands: int = Field(64, ge=1, le=1024)
    lowest_hz: float = Field(50.0, ge=0)
    highest_hz: float = Field(8000.0, gt=0)
    trim_decibels: float = Field(30.0, gt=0)
    decibels: float = Field(60.0, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.lowest_hz >= self.highest_hz:
            raise ValueError("lowest_hz is below highest_hz")
        if self.seconds * self.sample_rate / self.hop * max(self.window, self.bands) > MAX_SAMPLES:
            raise ValueError(f"frames of more samples in all than {MAX_SAMPLES}")
        return self


DEFAULT = SoundSpec()


def describe(folder: Path, spec: SoundSpec = DEFAULT) -> None:
    """Write beside the shards in `folder` that their pictures were made from sound."""
    write_json(folder / DESCRIPTION, spec.model_dump())


def described(place: Path | str | None) -> SoundSpec | None:
    """Return by which numbers pictures in a folder or store were made from sound, None if they were not."""
    path = None if place is None else beside(place, DESCRIPTION)
    if path is None:
        return None
    try:
        return SoundSpec.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InfoAEError(f"{path} is damaged ({one_line(error)}): convert the sounds again") from None


def is_sound(start: bytes) -> bool:
    """Whether a file that begins so, with 12 bytes or more, is a WAV, FLAC or OGG file."""
    return start[:4] in (b"fLaC", b"OggS") or (start[:4] in (b"RIFF", b"RIFX", b"RF64") and start[8:12] == b"WAVE")


def picture_of(file: IO[bytes], spec: SoundSpec = DEFAULT) -> Image.Image:
    """Return the spectrogram of the sound in `file` as a picture of 8 bits grey, `spec.bands` high, a column a frame.

    Raises UnreadableImageError with the reason, and InfoAEError where the libraries that read sound are not there.
    """
    samples, rate = _read(file, spec.seconds)
    return Image.fromarray(spectrogram(_resampled(samples, rate, spec.sample_rate), spec))


def spectrogram(samples: NDArray[np.float32], spec: SoundSpec = DEFAULT) -> NDArray[np.uint8]:
    """Return levels (bands, T), highest band first, of `samples` (N,) at `spec.sample_rate`; T is 1 + N // hop, cut."""
    largest = np.abs(samples).max()
    if largest == 0:
        return np.zeros((spec.bands, 1), np.uint8)
    padded = np.pad(samples / largest, spec.window // 2)
    padded = np.pad(padded, (0, max(0, spec.window - len(padded))))  # of one sample, and an odd window
    frames = np.lib.stride_tricks.sliding_window_view(padded, spec.window)[:: spec.hop]
    hann = np.hanning(spec.window + 1)[:-1]  # periodic, as for analysis
    power = np.abs(np.fft.rfft(frames * hann)) ** 2
    mel = _triangles(spec) @ power.T
    loudness = mel.sum(0)
    heard = np.flatnonzero(loudness >= loudness.max() * 10 ** (-spec.trim_decibels / 10))
    mel = mel[::-1, heard[0] : heard[-1] + 1]
    relative = np.maximum(mel / max(mel.max(), np.finfo(np.float64).tiny), 10 ** (-spec.decibels / 10))
    levels: NDArray[np.float64] = np.rint(255 * (1 + 10 * np.log10(relative) / spec.decibels))
    return levels.astype(np.uint8)


@functools.lru_cache(4)
def _triangles(spec: SoundSpec) -> NDArray[np.float64]:
    """The filters (bands, window // 2 + 1), lowest first."""
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (spec.lowest_hz, spec.highest_hz))
    corners = 700 * (10 ** (np.linspace(low, high, spec.bands + 2) / 2595) - 1)
    left, centre, right = (corners[start : start + spec.bands, None] for start in range(3))
    hz = np.fft.rfftfreq(spec.window, 1 / spec.sample_rate)
    triangles: NDArray[np.float64] = np.minimum((hz - left) / (centre - left), (right - hz) / (right - centre))
    return np.maximum(triangles, 0)


def _read(file: IO[bytes], seconds: float) -> tuple[NDArray[np.float32], int]:
    """Return the samples (N,), channels averaged, of the loudest `seconds` of `file`, and their rate in Hz."""
    soundfile = _library("soundfile")
    with unreadable("damaged sound: "), soundfile.SoundFile(file) as sound:
        rate, channels = sound.samplerate, sound.channels
        if not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise UnreadableImageError(f"{rate} samples a second: {LOWEST_RATE} to {HIGHEST_RATE} are read")
        if channels > MOST_CHANNELS:
            raise UnreadableImageError(f"a sound of {channels} channels: at most {MOST_CHANNELS} are read")
        parts, count = [np.empty(0, np.float32)], 0
        while len(part := sound.read(max(1, _SAMPLES_AT_ONCE // channels), "float32", always_2d=True)):
            count += len(part)
            if max(count, sound.frames) > MAX_SAMPLES:
                raise UnreadableImageError(f"a sound of more samples than {MAX_SAMPLES}")
            parts.append(part.mean(1))
    samples = np.concatenate(parts)
    if not len(samples):
        raise UnreadableImageError("a sound without samples")
    if not np.isfinite(samples).all():
        raise UnreadableImageError("a sound with samples that are no numbers, or infinite")
    return _loudest(samples, rate, seconds), rate


def _loudest(samples: NDArray[np.float32], rate: int, seconds: float) -> NDArray[np.float32]:
    """Return the loudest `seconds` of `samples` (N,), to a hundredth; all where there are no more."""
    length, step = round(seconds * rate), rate // _LOUDNESS_STEPS
    if len(samples) <= length:
        return samples
    steps = samples[: len(samples) // step * step].reshape(-1, step)
    energy = np.cumsum(np.einsum("ij,ij->i", steps, steps, dtype=np.float64))
    energy = np.concatenate([[0], energy])
    start = int(np.argmax(energy[length // step :] - energy[: -(length // step)])) * step
    start = min(start, len(samples) - length)
    return samples[start : start + length]


def _resampled(samples: NDArray[np.float32], rate: int, wanted: int) -> NDArray[np.float32]:
    if rate == wanted:
        return samples
    resampled: NDArray[np.float32] = _library("soxr").resample(samples, rate, wanted)
    return resampled if len(resampled) else samples[:1]  # of a few samples none may be left


def _library(name: str) -> Any:
    try:
        return __import__(name)
    except (ImportError, OSError) as error:  # OSError: libsndfile is missing
        raise InfoAEError(f"sound is read with {name}, which cannot be used ({one_line(error)}): install it") from error
