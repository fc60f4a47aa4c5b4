"""Labelled pictures that no rule was made on, for benchmarks/choice.py: glyphs, textures and emoji.

    python benchmarks/choice_sets.py kana FONTS OUT
    infoae convert OUT --labels folders --test 0.2 --size 32 --channels 1 --out kana

A folder of each class is written. Given are a folder of fonts (`letters`, `lowercase`, `kana`, `katakana`, and `kanji`,
of which there are 1,000: npm's @expo-google-fonts of Japanese fonts), of GIMP's patterns (`textures` of natural things
and other `patterns`: Debian's gimp-data and gimp-data-extras), or of unpacked npm packages emoji-datasource-apple,
-google, -twitter and -facebook (`emoji`, in colour: --channels 3 --background white). Glyphs and patches of textures
are turned and scaled at random, with a fixed seed.
"""

from __future__ import annotations

import argparse
import json
import string
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont

KANA = "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわをん"
KATAKANA = [chr(ord(character) + 0x60) for character in KANA]
KANJI = [bytes((row, cell)).decode("shift_jis") for row in range(0x89, 0x97) for cell in range(0x9F, 0xFC)][:1000]
PATTERNS = [
    "leaves4",
    "leaves6",
    "bark",
    "burlwood",
    "walnut",
    "pine",
    "granite1",
    "granite2",
    "marble1",
    "marble2",
    "slate",
    "stone33",
    "drymud",
    "pebbles",
    "rust",
    "crinklepaper",
    "paper",
    "Moonfoot",
    "burlap",
    "greyweave",
    "goldcloth",
    "cracked",
    "brick",
    "clouds",
]
SIDE, PATCHES = 32, 350


def glyphs(folder: Path, characters: Sequence[str], poses: int) -> Iterator[tuple[str, Image.Image]]:
    """Yield (character, image) of each character in each font that has it, in some poses."""
    random = np.random.default_rng(0)
    for path in sorted(folder.rglob("*.ttf")):
        font = ImageFont.truetype(str(path), 72)
        known = TTFont(path, lazy=True).getBestCmap()
        for character in (each for each in characters if ord(each) in known):
            canvas = Image.new("L", (128, 128))
            ImageDraw.Draw(canvas).text((64, 64), character, 255, font, anchor="mm")
            box = canvas.getbbox() or (0, 0, 128, 128)
            middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
            for _ in range(poses):
                angle, scale = random.uniform(-10, 10), random.uniform(0.85, 1.1)
                turned = canvas.rotate(angle, Image.Resampling.BICUBIC, center=middle)
                half, (x, y) = 46 / scale, middle
                cut = turned.crop((round(x - half), round(y - half), round(x + half), round(y + half)))
                yield character, cut.resize((SIDE, SIDE), Image.Resampling.BOX)


def textures(folder: Path, *, natural: bool) -> Iterator[tuple[str, Image.Image]]:
    """Yield (pattern, image) of grey patches turned by any angle, all of the same mean and contrast."""
    random = np.random.default_rng(0)
    for path in sorted(folder.rglob("*.pat")):
        raw = path.read_bytes()
        header, _, width, height, channels, _ = struct.unpack(">6I", raw[:24])
        if (path.stem in PATTERNS) != natural or (not natural and min(width, height) < 120):
            continue
        pixels = np.frombuffer(raw[header:], np.uint8).reshape(height, width, channels)[..., :3].mean(2)
        whole = Image.fromarray(np.tile(pixels, (2, 2)).astype(np.uint8))  # patterns are made to be tiled
        for _ in range(PATCHES):
            left, top = random.integers(width), random.integers(height)
            side = min(46, whole.width - left, whole.height - top)
            turned = whole.crop((left, top, left + side, top + side)).rotate(
                random.uniform(0, 360), Image.Resampling.BICUBIC
            )
            margin = (side - min(side, SIDE)) // 2
            cut = np.asarray(turned.crop((margin, margin, margin + SIDE, margin + SIDE)), np.float64)
            normal = 128 + 50 * (cut - cut.mean()) / max(cut.std(), 1.0)
            yield path.stem, Image.fromarray(normal.clip(0, 255).astype(np.uint8))


def emoji(folder: Path) -> Iterator[tuple[str, Image.Image]]:
    """Yield (group, image) of each emoji, without variations of skin, as drawn by each vendor."""
    for listed in sorted(folder.rglob("emoji.json")):
        images = next((listed.parent / "img").iterdir()) / "64"
        for entry in json.loads(listed.read_text(encoding="utf-8")):
            path = images / entry["image"]
            if path.exists() and entry["category"] != "Component":
                yield entry["category"].replace(" & ", "-"), Image.open(path).convert("RGBA")


def main(arguments: list[str] | None = None) -> None:
    """Write the pictures of a set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "set", choices=["letters", "lowercase", "kana", "katakana", "kanji", "textures", "patterns", "emoji"]
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args(arguments)
    pictures = {
        "letters": lambda: glyphs(given.source, string.ascii_uppercase, 3),
        "lowercase": lambda: glyphs(given.source, string.ascii_lowercase, 3),
        "katakana": lambda: glyphs(given.source, KATAKANA, 3),
        "kana": lambda: glyphs(given.source, KANA, 3),
        "kanji": lambda: glyphs(given.source, KANJI, 1),
        "textures": lambda: textures(given.source, natural=True),
        "patterns": lambda: textures(given.source, natural=False),
        "emoji": lambda: emoji(given.source),
    }[given.set]()
    for number, (name, picture) in enumerate(pictures):
        folder = given.out / name
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{number:06}.png")


if __name__ == "__main__":
    main()
