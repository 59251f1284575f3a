"""One image file: its header, its pixels, and why it cannot be used."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nas_cntk.data.sources import one_line
from nas_cntk.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
MAX_SIDE = 1 << 16  # pixels; no camera has a line of millions, and resizing one takes gigabytes
MAX_FILE_BYTES = 1 << 29  # more than an uncompressed image of the most pixels
STRIP_PIXELS = 1 << 20  # converted at a time
ORIENTATION = 0x0112  # EXIF: from 5 on, the image lies on its side


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of an image says."""

    size: tuple[int, int]  # height and width, as the image is looked at
    mode: str  # Pillow's: L, RGB, RGBA, P, I;16, ...
    animated: bool  # the first frame is read
    turned: bool  # by EXIF


def open_image(path: Path) -> Image.Image:
    """Open an image without decoding it.

    Raises: whatever Pillow raises for a broken file.
    """
    from PIL import Image

    if not path.is_file():
        raise DataError("no regular file")
    size = path.stat().st_size
    if not size:
        raise DataError("empty file")
    if size > MAX_FILE_BYTES:  # some formats are read whole before anything is known of them
        raise DataError(f"{size:,} bytes")
    image = Image.open(path, formats=FORMATS)
    if max(image.size) > MAX_SIDE:
        image.close()
        raise DataError(f"{image.height:,} x {image.width:,} pixels")
    return image


def header_of(path: Path) -> Header:
    """Return what the header of an image says, without decoding its pixels.

    Raises: whatever Pillow raises for a broken file.
    """
    with open_image(path) as image:
        # Of a PNG that has none in front of its pixels, asking for EXIF would decode it.
        has_exif = image.format in ("JPEG", "WEBP") or "exif" in image.info
        orientation = image.getexif().get(ORIENTATION, 1) if has_exif else 1
        height, width = image.height, image.width
        if orientation in (5, 6, 7, 8):
            height, width = width, height
        animated = bool(getattr(image, "is_animated", False))
        return Header((height, width), image.mode, animated, orientation in range(2, 9))


def pixels_of(image: Image.Image) -> NDArray[Any]:
    """Return the decoded image (h, w, c): uint8, or uint16 for 16-bit gray; c is 1 for gray, otherwise 3."""
    from PIL import ImageOps

    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):
        return _read(image, 1, np.uint16, lambda part: np.clip(np.asarray(part), 0, 65535)[..., None])
    if image.mode in ("1", "L") and "transparency" not in image.info:
        return _read(image, 1, np.uint8, lambda part: np.asarray(part.convert("L"))[..., None])
    if image.has_transparency_data:
        pixels = _read(image, 3, np.uint8, _on_black)
    else:
        pixels = _read(image, 3, np.uint8, lambda part: np.asarray(part.convert("RGB")))
    gray = all((pixels[rows] == pixels[rows][..., :1]).all() for rows in _strips(image))
    return pixels[..., :1] if gray else pixels


def _read(
    image: Image.Image, channels: int, dtype: type[Any], convert: Callable[[Image.Image], NDArray[Any]]
) -> NDArray[Any]:
    """Return pixels (h, w, channels), converted some rows at a time: a large image is in memory hardly twice."""
    pixels = np.empty((image.height, image.width, channels), dtype=dtype)
    for rows in _strips(image):
        pixels[rows] = convert(image.crop((0, rows.start, image.width, rows.stop)))
    return pixels


def _strips(image: Image.Image) -> Iterator[slice]:
    """Slices over the rows of an image, of about ``STRIP_PIXELS`` each."""
    step = max(1, STRIP_PIXELS // image.width)
    for start in range(0, image.height, step):
        yield slice(start, min(start + step, image.height))


def _on_black(image: Image.Image) -> NDArray[np.uint8]:
    rgba = np.asarray(image.convert("RGBA")).astype(np.uint32)
    return ((rgba[..., :3] * rgba[..., 3:] + 127) // 255).astype(np.uint8)


def strict_about_bombs() -> None:
    """Make a suspiciously large image an error; Pillow only warns of it, as it does of odd metadata."""
    from PIL import Image

    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def reason(error: Exception) -> str:
    """Return in a few words why an image cannot be used."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):  # its text repeats the path
        return "no image"
    if isinstance(error, Image.DecompressionBombWarning | Image.DecompressionBombError):
        return f"more than {Image.MAX_IMAGE_PIXELS:,} pixels"
    if isinstance(error, OSError) and error.strerror:  # its text repeats the path
        return error.strerror
    return one_line(error)
