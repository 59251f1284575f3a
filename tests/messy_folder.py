"""A folder of images as people have them: every oddity that the reader of folders must live with.

`python tests/messy_folder.py DIR` writes one to try things on by hand.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("big cats", "Äpfel & Birnen", "象", "z" * 60)
COUNTS = (60, 24, 12, 8)  # good images: unbalanced
BAD = ("big cats/cut off.png", "big cats/empty.jpg", "Äpfel & Birnen/text.png")
COLOURS = ((200, 120, 40), (60, 180, 60), (90, 90, 200), (150, 150, 150))


def picture(label: int, number: int, size: tuple[int, int]) -> Image.Image:
    """A noisy image of its class's colour, brighter on one side; size is (width, height)."""
    rng = np.random.default_rng([label, number])
    ramp = np.linspace(0.6, 1.2, size[0])[None, :, None]
    pixels = np.array(COLOURS[label]) * ramp + rng.normal(0, 20, (size[1], size[0], 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def size_of(number: int) -> tuple[int, int]:
    """Photographs of several cameras, upright and lying."""
    return ((40, 30), (30, 40), (48, 27), (32, 32), (200, 150))[number % 5]


def write_messy_folder(root: Path) -> Path:
    """Write the folder; returns it."""
    for label, (name, count) in enumerate(zip(CLASSES, COUNTS, strict=True)):
        folder = root / name
        folder.mkdir(parents=True)
        for number in range(count):
            _write(folder, label, number)
    first = root / CLASSES[0]
    good = (first / "000 plain.png").read_bytes()
    (root / BAD[0]).write_bytes(good[: len(good) // 2])
    (root / BAD[1]).write_bytes(b"")
    (root / BAD[2]).write_bytes(b"not an image")
    (first / ".DS_Store").write_bytes(b"x")
    (first / "._000 plain.png").write_bytes(b"resource fork")
    (first / "notes.txt").write_text("these are cats")
    (first / "deeper").mkdir()
    picture(0, 997, (40, 30)).save(first / "deeper" / "in a folder.png")
    (first / "again.png").write_bytes(good)  # twice in its class
    (root / CLASSES[1] / "also a cat.png").write_bytes(good)  # and in another one
    (first / "link.png").symlink_to("001 gray.png")
    (root / "no images yet").mkdir()
    (root / ".thumbnails").mkdir()
    picture(0, 999, (8, 8)).save(root / ".thumbnails" / "t.png")
    return root


def _write(folder: Path, label: int, number: int) -> None:
    """One image in one of nine ways to store it."""
    image = picture(label, number, size_of(number))
    stem = f"{number:03d}"
    match number % 9:
        case 0:
            image.save(folder / f"{stem} plain.png")
        case 1:
            image.convert("L").save(folder / f"{stem} gray.png")
        case 2:
            image.putalpha(Image.linear_gradient("L").resize(image.size))
            image.save(folder / f"{stem} alpha.png")
        case 3:
            exif = Image.Exif()
            exif[0x0112] = 6  # lies on its side
            image.rotate(90, expand=True).save(folder / f"{stem} turned.JPG", exif=exif, quality=95)
        case 4:
            deep = np.asarray(image.convert("L")).astype(np.uint16) * 257
            Image.fromarray(deep).save(folder / f"{stem} sixteen bits.png")
        case 5:
            image.quantize(32).save(folder / f"{stem} palette.png")
        case 6:
            others = [picture(label, 1000 + number + i, image.size) for i in range(2)]
            image.save(folder / f"{stem} animated.gif", save_all=True, append_images=others)
        case 7:
            image.save(folder / f"{stem} lossless.webp", lossless=True)
        case _:
            image.convert("CMYK").save(folder / f"{stem} print.jpeg", quality=95)


if __name__ == "__main__":
    print(write_messy_folder(Path(os.path.abspath(sys.argv[1]))))
