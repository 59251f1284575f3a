"""Folders of images: spoiled files of every format, names that nobody expects, links, pipes."""

from __future__ import annotations

import io
import os
import struct
import zlib
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from fuzz.harness import Reader
from fuzz.images import check, pictures
from fuzz.mutations import EXTREMES, spoiled_bytes
from nas_cntk import data
from nas_cntk.errors import DataError

NAMES = (
    b"a\xff\xfe",
    b"\x1b[31mred\x07",
    b"<script>",
    b"'; DROP TABLE x; --",
    b"a\nb",
    "象".encode(),
    b"z" * 200,
)


def make() -> Reader:
    """The reader of folders of images."""
    return Reader("folder", run, (DataError,))


def run(rng: Random, folder: Path) -> None:
    """Read one folder."""
    root = os.fsencode(folder / "root")
    pool = _pool(rng.choice((0, 0, 0, 1)))
    parts = (b"train", b"test") if rng.random() < 0.15 else (b"",)
    for part in parts:
        for label in range(2):
            place = os.path.join(root, part, b"ab"[label : label + 1] if rng.random() < 0.9 else rng.choice(NAMES))
            os.makedirs(place, exist_ok=True)
            for number in range(3):
                suffix, content = rng.choice(pool)
                if rng.random() < 0.2:
                    content = _spoiled(rng, suffix, content)
                name = str(number).encode() if rng.random() < 0.95 else rng.choice(NAMES)
                with open(os.path.join(place, name + suffix.encode()), "wb") as file:
                    file.write(content)
            if rng.random() < 0.15:
                _oddity(rng, place, root)
    options = {"image_size": rng.choice((None, 1, 2, 2, 3)), "skip_bad": rng.random() < 0.7}
    check(data.load(f"folder:{os.fsdecode(root)}", **options))


@cache
def _pool(kind: int) -> list[tuple[str, bytes]]:
    """Images in every format and mode: of one size for kind 0, of several for kind 1."""
    found = []
    for seed, shape in enumerate([(4, 4)] * 4 if kind == 0 else [(4, 4), (3, 6), (9, 5)]):
        colour = Image.fromarray(pictures(1, (*shape, 3), seed)[0])
        gray = colour.convert("L")
        clear = colour.copy()
        clear.putalpha(gray)
        deep = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
        found += [(".png", _saved(image, "PNG")) for image in (colour, gray, clear, deep, colour.quantize(7))]
        found += [(".png", _saved(gray.convert("1"), "PNG")), (".png", _saved(gray, "PNG", transparency=3))]
        exif = Image.Exif()
        exif[0x0112] = (1, 3, 6, 8)[seed]
        found += [(".jpg", _saved(colour, "JPEG", exif=exif)), (".jpeg", _saved(colour.convert("CMYK"), "JPEG"))]
        found += [(".JPG", _saved(colour, "JPEG", progressive=True)), (".png", _saved(colour, "PNG", exif=exif))]
        found += [(".bmp", _saved(colour, "BMP")), (".bmp", _saved(gray, "BMP")), (".gif", _saved(gray, "GIF"))]
        found += [(".gif", _saved(colour.quantize(9), "GIF", save_all=True, append_images=[gray]))]
        found += [(".webp", _saved(colour, "WEBP", lossless=True)), (".webp", _saved(clear, "WEBP", exif=exif))]
        found += [(".webp", _saved(colour, "WEBP", save_all=True, append_images=[clear]))]
    return found


def _saved(image: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def _spoiled(rng: Random, suffix: str, content: bytes) -> bytes:
    if suffix == ".png" and rng.random() < 0.7:
        return _png(rng, content)
    return spoiled_bytes(rng, content)


def _png(rng: Random, content: bytes) -> bytes:
    """One chunk of a PNG spoiled, left out, doubled or put in, its checksum made right."""
    chunks, at = [], 8
    while at < len(content):
        (size,) = struct.unpack(">I", content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    where = rng.randrange(len(chunks))
    kind, body = chunks[where]
    match rng.randrange(5):
        case 0:
            head = bytearray(chunks[0][1])
            place = rng.choice((0, 4))
            head[place : place + 4] = (rng.choice((*EXTREMES, 3, 5, 90, 3000)) % 2**32).to_bytes(4, "big")
            chunks[0] = (b"IHDR", bytes(head))
        case 1:
            chunks[where] = (kind, spoiled_bytes(rng, body))
        case 2:
            del chunks[where]
        case 3:
            chunks.insert(where, (kind, body))
        case _:
            names = (b"tRNS", b"PLTE", b"iCCP", b"zTXt", b"iTXt", b"eXIf", b"gAMA", b"acTL", b"fdAT", b"abcd", b"IDAT")
            bodies = (b"", bytes(3), b"x\0\0" + zlib.compress(bytes(3_000_000)), os.urandom(0), b"Exif\0\0MM\0*", body)
            chunks.insert(where, (rng.choice(names), rng.choice(bodies)))
    return content[:8] + b"".join(
        len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big") for kind, body in chunks
    )


def _oddity(rng: Random, place: bytes, root: bytes) -> None:
    path = os.path.join(place, rng.choice((b"odd.png", b"odd", b".odd.png", *NAMES)))
    try:
        match rng.randrange(8):
            case 0:
                os.symlink(rng.choice((b"/etc/passwd", b"/dev/zero", b"..", b"/", root, b"odd.png", b"nowhere")), path)
            case 1:
                os.symlink(os.path.basename(path), path)  # a link to itself
            case 2:
                os.mkfifo(path)
            case 3:
                os.makedirs(os.path.join(path, *[b"d"] * rng.choice((1, 30))))
            case 4:
                with open(path, "wb") as file:
                    file.truncate(rng.choice((0, 1, 2**40)))  # takes no room
            case 5:
                os.makedirs(path)
                os.symlink(b"..", os.path.join(path, b"up"))
            case 6:
                os.mkdir(os.path.join(root, rng.choice((b"empty", b".hidden", b"val", *NAMES))))
            case _:
                heads = (b"GIF89a", b"RIFF\xff\xff\xff\xffWEBPVP8 ", b"BM", b"\xff\xd8\xff\xe0", b"%!PS")
                with open(path, "wb") as file:
                    file.write(rng.choice(heads))
                    file.truncate(rng.choice((20, 2**40)))
    except OSError:  # there is one of this name
        pass
