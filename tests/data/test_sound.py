"""A sound becomes the picture that its rule says: each step by a slow computation of the same, and what is refused."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from pydantic import ValidationError

from infoae.data import sound
from infoae.data.decode import DecodeOptions, read_image, size_of
from infoae.data.sound import SoundSpec, picture_of, spectrogram
from infoae.data.unreadable import UnreadableImageError
from infoae.errors import InfoAEError
from tests.helpers.sounds import RATE, chirp, encoded, tone


def mel(hz: float) -> float:
    return float(2595 * np.log10(1 + hz / 700))


def slow(samples: NDArray[np.float32], spec: SoundSpec) -> NDArray[np.float64]:
    """The rule of `infoae.data.sound` frame by frame and band by band; levels before they are rounded."""
    half = spec.window // 2
    padded = np.concatenate([np.zeros(half), samples, np.zeros(half)])
    place = np.arange(spec.window)
    hann = np.sin(np.pi * place / spec.window) ** 2
    waves = np.exp(-2j * np.pi * np.outer(np.arange(half + 1), place) / spec.window)
    edges = np.linspace(mel(spec.lowest_hz), mel(spec.highest_hz), spec.bands + 2)
    corners = [700 * (10 ** (edge / 2595) - 1) for edge in edges]
    columns = []
    for start in range(0, len(samples) + 1, spec.hop):
        power = np.abs(waves @ (padded[start : start + spec.window] * hann)) ** 2
        column = []
        for band in range(spec.bands):
            total = 0.0
            for number, value in enumerate(power):
                hz = number * spec.sample_rate / spec.window
                total += value * np.interp(hz, corners[band : band + 3], [0, 1, 0])
            column.append(total)
        columns.append(column)
    found = np.array(columns).T
    decibels = 10 * np.log10(found.sum(0) / found.sum(0).max())
    heard = [frame for frame, value in enumerate(decibels) if value >= -spec.trim_decibels]
    found = found[:, heard[0] : heard[-1] + 1]
    levels: NDArray[np.float64] = (10 * np.log10(found / found.max())).clip(-spec.decibels, 0)[::-1]
    return 255 * (1 + levels / spec.decibels)


def picture(content: bytes, spec: SoundSpec = sound.DEFAULT) -> NDArray[np.uint8]:
    return np.asarray(picture_of(io.BytesIO(content), spec))


@pytest.mark.parametrize(
    "spec", [SoundSpec(), SoundSpec(window=300, hop=100, bands=20, lowest_hz=0, highest_hz=6000, decibels=40)]
)
def test_levels_are_those_of_a_slow_computation(spec: SoundSpec) -> None:
    noisy = chirp(0.3) + 0.01 * np.random.default_rng(0).standard_normal(int(0.3 * RATE)).astype(np.float32)
    quiet = np.concatenate([1e-4 * noisy[:1000], noisy, 1e-4 * noisy[:1500]])
    wanted = slow(quiet, spec)
    assert np.abs(spectrogram(quiet, spec) - wanted).max() <= 0.5 + 1e-6
    assert wanted.shape[1] < 1 + len(quiet) // spec.hop  # something was cut off


def test_the_levels_of_a_chirp_are_those_of_librosa() -> None:
    """The mean of each eighth band, as librosa 0.11 gives it (melspectrogram with htk=True, norm=None)."""
    rows = spectrogram(chirp(1.0)).mean(1)[::8]
    assert rows.round(2).tolist() == pytest.approx(LIBROSA, abs=0.02)


LIBROSA = [1.32, 1.63, 23.7, 26.23, 22.36, 20.42, 18.82, 15.45]


def test_low_is_below_and_time_runs_to_the_right() -> None:
    levels = spectrogram(np.concatenate([tone(200, 0.5), tone(4000, 0.5)]))
    rows = levels.argmax(0)
    centres = np.linspace(mel(50), mel(8000), 66)[1:-1]
    low, high = (63 - np.abs(centres - mel(hz)).argmin() for hz in (200, 4000))
    assert (rows[5:45] == low).all()
    assert (rows[55:95] == high).all()
    assert high < low


def test_the_format_is_told_by_content_and_changes_little(tmp_path: Path) -> None:
    whole = (chirp(0.5) * 32_767).astype(np.int16)  # of floats each format makes its own
    wanted = picture(encoded(whole, "WAV"))
    assert np.array_equal(picture(encoded(whole, "FLAC")), wanted)
    ogg = picture(encoded(chirp(0.5), "OGG"))
    assert ogg.shape[0] == 64
    width = min(ogg.shape[1], wanted.shape[1])
    loud = wanted[:, :width] > 200  # what is quiet, OGG leaves out
    assert np.abs(ogg[:, :width].astype(int) - wanted[:, :width])[loud].mean() < 5
    for kind in ("WAV", "FLAC", "OGG"):
        path = tmp_path / "x.png"
        path.write_bytes(encoded(chirp(0.5), kind))
        pixels = read_image(path, 1, 20, 24)
        assert np.array_equal(pixels, read_image(path.read_bytes(), 1, 20, 24))
        assert np.array_equal(read_image(path, 3, 20, 24), np.repeat(pixels, 3, 0))
        assert size_of(path) == picture(path.read_bytes()).shape


@pytest.mark.parametrize("rate", [8000, 44_100, 48_000])
def test_another_rate_gives_the_same_picture(rate: int) -> None:
    wanted = picture(encoded(tone(1000, 0.5), "WAV"))
    found = picture(encoded(tone(1000, 0.5, rate), "WAV", rate))
    assert found.shape == wanted.shape
    loud = wanted > 100
    assert np.abs(found.astype(int) - wanted)[loud].max() <= 2


def test_channels_are_averaged_and_loudness_is_not_seen() -> None:
    left, right = chirp(0.3), tone(300, 0.3)
    wanted = picture(encoded((left + right) / 2, "WAV", subtype="DOUBLE"))
    for factor in (1, 1e-3, 1e30):
        stereo = np.stack([left, right], 1).astype(np.float64) * factor
        assert np.abs(picture(encoded(stereo, "WAV", subtype="DOUBLE")).astype(int) - wanted).max() <= 1


def test_silence_around_a_sound_is_cut_off_and_nothing_but_silence_is_black() -> None:
    wanted = spectrogram(chirp(0.5))
    silence = np.zeros(RATE, np.float32)
    found = spectrogram(np.concatenate([silence, chirp(0.5), silence]))
    assert 0 <= found.shape[1] - wanted.shape[1] <= 4
    assert not read_image(encoded(silence, "WAV"), 1, 28, 28).any()


@pytest.mark.parametrize("count", [1, 2, 100])
def test_the_shortest_sounds(count: int) -> None:
    for rate in (1000, 8000, 16_000, 48_000):
        assert read_image(encoded(np.full(count, 0.5, np.float32), "WAV", rate), 1, 28, 28).any()


def test_of_a_long_sound_the_loudest_part_is_taken() -> None:
    rate, spec = 8000, SoundSpec(sample_rate=8000, seconds=1.5, highest_hz=4000)
    random = np.random.default_rng(0)
    samples = (random.uniform(-1, 1, 6 * rate) * np.repeat([0.1, 0.4, 0.3, 0.9, 0.5, 0.2], rate)).astype(np.float32)
    length = int(1.5 * rate)
    energies = [
        float((samples[start : start + length].astype(np.float64) ** 2).sum()) for start in range(0, 36_000, 80)
    ]
    start = 80 * int(np.argmax(energies))
    assert 2.4 * rate < start < 3.1 * rate
    wanted = spectrogram(samples[start : start + length], spec)
    assert np.array_equal(picture(encoded(samples, "WAV", rate, "FLOAT"), spec), wanted)


def with_one(value: float) -> bytes:
    samples = chirp(0.1).copy()
    samples[500] = value
    return encoded(samples, "WAV", subtype="FLOAT")


REFUSED = {
    "no samples": (encoded(np.empty(0, np.float32), "WAV"), "a sound without samples"),
    "not a number": (with_one(np.nan), "a sound with samples that are no numbers, or infinite"),
    "infinite": (with_one(np.inf), "a sound with samples that are no numbers, or infinite"),
    "too slow": (encoded(chirp(0.1), "WAV", 500), "500 samples a second: 1000 to 384000 are read"),
    "too fast": (encoded(chirp(0.1), "WAV", 1_000_000), "1000000 samples a second"),
    "many channels": (encoded(np.zeros((9, 33)), "WAV"), "a sound of 33 channels: at most 32 are read"),
    "cut short": (encoded(chirp(2), "FLAC")[:3000], "damaged sound: "),
    "a header alone": (b"OggS" + bytes(100), "damaged sound: "),
    "noise": (b"RIFF\xff\xff\xff\xffWAVE" + bytes(range(256)), "damaged sound: "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_one_line(name: str) -> None:
    content, message = REFUSED[name]
    with pytest.raises(UnreadableImageError) as error:
        read_image(content, 1, 28, 28)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_sound_of_hours_is_refused_before_it_is_read_whole() -> None:
    content = encoded(np.zeros(10 * 3600 * 2000, np.int16), "FLAC", 2000)  # 72 million samples
    read = 0

    class Counted(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            nonlocal read
            found = super().read(size)
            read += len(found)
            return found

        def readinto(self, buffer: object, /) -> int:
            nonlocal read
            count = super().readinto(buffer)  # type: ignore[arg-type]
            read += count
            return count

    with pytest.raises(UnreadableImageError, match=r"more samples than 64,000,000 \(INFOAE_MAX_SAMPLES raises it\)"):
        picture_of(Counted(content))
    assert 0 < read < len(content) / 4


def test_a_model_of_pictures_refuses_sound() -> None:
    with pytest.raises(UnreadableImageError, match=r"^a sound, and the model was trained on pictures$"):
        read_image(encoded(chirp(0.1), "WAV"), 1, 28, 28, DecodeOptions(sound=None))


def test_without_the_library_the_job_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(InfoAEError, match="sound is read with soundfile, which cannot be used") as error:
        read_image(encoded(chirp(0.1), "WAV"), 1, 28, 28)
    assert not isinstance(error.value, UnreadableImageError)


def test_numbers_that_cannot_be_or_would_take_all_memory_are_refused(tmp_path: Path) -> None:
    for given in (
        {"bands": 10**9},
        {"window": 10**9},
        {"hop": 1},
        {"seconds": 3600},
        {"decibels": 0},
        {"lowest_hz": 9000},
    ):
        with pytest.raises(ValidationError):
            SoundSpec.model_validate(given)
    (tmp_path / sound.DESCRIPTION).write_text('{"bands": -1}')
    with pytest.raises(InfoAEError, match=r"sound\.json is damaged"):
        sound.described(tmp_path)


def test_soundfile_reads_the_formats_that_count_as_sound() -> None:
    for kind in ("WAV", "RF64", "FLAC", "OGG"):
        content = encoded(chirp(0.1), kind)
        assert sound.is_sound(content[:12])
        assert soundfile.info(io.BytesIO(content)).format == kind
    assert not sound.is_sound(b"RIFF\0\0\0\0WEBP")
