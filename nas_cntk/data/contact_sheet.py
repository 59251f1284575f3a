"""A contact sheet: some images of every class as kernels see them, in one PNG."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nas_cntk.data.dataset import Dataset
from nas_cntk.errors import DataError
from nas_cntk.files import whole

if TYPE_CHECKING:
    from PIL import Image, ImageFont

    Font = ImageFont.ImageFont | ImageFont.FreeTypeFont | ImageFont.TransposedFont

TILE = 48  # pixels a side of an image, at least; small images are enlarged by a whole number
LABEL = 150  # pixels for the name of a class
GAP = 4
ROWS = 25  # classes in a column of the sheet
IMAGES = (10, 5)  # of a class: where one column is enough, and where it is not
# Pillow's own font has Latin letters alone; these have more, and Pillow knows where systems keep them.
FONTS = ("NotoSansCJK-Regular.ttc", "NotoSans-Regular.ttf", "DejaVuSans.ttf", "Arial Unicode.ttf", "arial.ttf")
BACKGROUND, INK = (255, 255, 255), (20, 20, 20)


def require_png(path: str) -> Path:
    """Return the path of a contact sheet that can be written.

    Raises: DataError.
    """
    target = Path(path).expanduser()
    if target.suffix.lower() != ".png":
        raise DataError(f"--contact-sheet {path!r} is no PNG: give a name that ends in .png")
    if target.is_dir() or not target.absolute().parent.is_dir():
        raise DataError(f"--contact-sheet {path!r} cannot be written: give a file in a folder that exists")
    return target


def write_contact_sheet(dataset: Dataset, path: Path) -> tuple[int, int]:
    """Write the sheet, whole or not at all; return its width and height in pixels.

    The training images of a class come in the order in which they are read, evenly spread over it.

    Raises: DataError where the file cannot be written.
    """
    sheet = contact_sheet(dataset)
    try:
        with whole(path) as file:
            sheet.save(file, format="PNG")
    except OSError as error:
        raise DataError(f"contact sheet {str(path)!r} cannot be written: {error.strerror or error}") from None
    return sheet.size


def contact_sheet(dataset: Dataset) -> Image.Image:
    """Return the sheet: a row for each class, its name and number of training images before its images."""
    from PIL import Image, ImageDraw

    classes = dataset.num_classes
    columns = math.ceil(classes / ROWS)
    images = IMAGES[0] if columns == 1 else IMAGES[1]
    h, w, _ = dataset.image_shape
    factor = max(1, math.ceil(TILE / max(h, w)))
    height, width = h * factor + GAP, w * factor + GAP
    block = LABEL + images * width + 2 * GAP
    sheet = Image.new("RGB", (columns * block + GAP, min(classes, ROWS) * height + GAP), BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), _font()
    low, high = pixel_range(dataset.x_train)
    for label, name in enumerate(dataset.classes):
        left, top = label // ROWS * block + GAP, label % ROWS * height + GAP
        members = np.flatnonzero(dataset.y_train == label)
        draw.text((left, top), _fitted(draw, font, f"{name}", LABEL - GAP), INK, font)
        draw.text((left, top + 16), f"{len(members):,}", INK, font)
        chosen = members[np.linspace(0, len(members) - 1, min(images, len(members))).astype(int)]
        for place, index in enumerate(chosen):
            shown = tile(dataset.x_train[index], low, high).resize((w * factor, h * factor), Image.Resampling.NEAREST)
            sheet.paste(shown, (left + LABEL + place * width, top))
    return sheet


def pixel_range(x: NDArray[Any]) -> tuple[float, float]:
    """Return the values that are shown black and white, for images of shape (n, h, w, c)."""
    low, high = float(x.min()), float(x.max())
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def tile(image: NDArray[Any], low: float, high: float) -> Image.Image:
    """Return one image, shape (h, w, c), in RGB: its first three channels, or its first one in grey."""
    from PIL import Image

    pixels = np.rint(255 * np.clip((image - low) / max(high - low, 1e-12), 0, 1)).astype(np.uint8)
    channels = pixels.shape[2]
    if channels >= 3:
        return Image.fromarray(np.ascontiguousarray(pixels[..., :3]))
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0])).convert("RGB")


def _font() -> Font:
    from PIL import ImageFont

    for name in FONTS:
        try:
            return ImageFont.truetype(name, 13)
        except OSError:
            continue
    return ImageFont.load_default(13)


def _fitted(draw: Any, font: Font, name: str, width: int) -> str:
    """The name on one line, cut where it is too long."""
    name = "".join(letter if letter.isprintable() else "�" for letter in name)
    if draw.textlength(name, font) <= width:
        return name
    while name and draw.textlength(name + "...", font) > width:
        name = name[:-1]
    return name + "..."
