"""folder: one folder of images a class, or ``train/`` and ``test/`` with one folder a class each.

PNG, JPEG, BMP, GIF (first frame) and WebP are read, of any size and mode:

* Sizes. Images of one size stay as they are. Images of several sizes are brought to a square of N x N by
  area averaging (no cropping): N is ``--image-size``, or else the median over the training images of the
  shorter side, at most 32. Smaller images are enlarged then; with ``--image-size`` that is an error.
* Channels. One where every image is gray (also one stored in colour), otherwise red, green, blue.
  Transparent pixels are laid on black. Palettes are looked up, 16-bit gray keeps its 16 bits.
* The rotation that a camera notes in EXIF is applied.
* Classes are numbered in the order of their names. Hidden files and folders and files of other types are
  left out, and so are class folders without images. Folders inside a class folder belong to the class.
"""

from __future__ import annotations

import os
import statistics
import unicodedata
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nas_cntk.data.dataset import Raw
from nas_cntk.data.preprocessing import area_average
from nas_cntk.data.sources import MAX_BYTES, Source, first_few, one_line, require_budget, require_folder, show
from nas_cntk.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
OTHER_PARTS = ("test", "val", "valid", "validation")  # beside train/; only test/ is read
LARGEST_DEFAULT = 32
WHAT = "a folder of class folders with images, or of train/ and test/ with class folders"


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    label: str
    test: bool


def read(source: Source) -> Raw:
    """Read every image of a folder.

    Raises: DataError, also for unreadable images unless ``skip_bad`` leaves them out.
    """
    require_folder(source.path, WHAT)
    root = source.path.resolve()
    files, notes = _list(root)
    if not files:
        raise DataError(f"{show(source.path)} holds no images in class folders: give {WHAT}")

    bad: dict[Path, str] = {}
    sizes = _header_sizes(files, bad)
    files = [file for file in files if file.path in sizes]
    side = _common_side(files, sizes, source.image_size)
    if source.image_size is not None:
        small = {path: f"only {h} x {w} pixels" for path, (h, w) in sizes.items() if min(h, w) < side}
        if small and not source.skip_bad:
            raise DataError(
                f"--image-size {side} is above the size of {len(small):,} images "
                f"({_few(small, root)}): use at most {min(min(sizes[path]) for path in small)}, "
                "or leave them out (--skip-bad)"
            )
        bad |= small
        files = [file for file in files if file.path not in bad]

    images = _decode(files, sizes, side, source.image_size, bad)
    files = [file for file in files if file.path not in bad]
    if bad:
        count = f"{len(bad):,} of {len(bad) + len(files):,} images cannot be used"
        if not source.skip_bad:
            raise DataError(f"{count} ({_few(bad, root)}): repair them, or leave them out (--skip-bad)")
        notes.append(f"{count} and are left out ({_few(bad, root)})")
    if not any(not file.test for file in files):
        raise DataError(f"{show(source.path)} holds no readable training images: give {WHAT}")

    x, divisor, mixed = _stack(images, side)
    if mixed and source.image_size is None:
        notes.append(f"images of several sizes: all are resized to {side} x {side} (choose with --image-size)")
    labels = np.array([file.label for file in files])
    test = np.array([file.test for file in files])
    if not test.any():
        return Raw(root.name, x, labels, divisor, notes=tuple(notes))
    return Raw(root.name, x[~test], labels[~test], divisor, x[test], labels[test], tuple(notes))


def _few(reasons: dict[Path, str], root: Path) -> str:
    return first_few(f"{path.relative_to(root).as_posix()}: {reason}" for path, reason in reasons.items())


def _list(root: Path) -> tuple[list[_File], list[str]]:
    """All image files in a fixed order, and notes on what was passed over."""
    notes: list[str] = []
    passed: list[Path] = []
    folders = _folders(root, root)
    names = [folder.name for folder in folders]
    parts = [(root, False)]
    if "train" in names and set(names) <= {"train", *OTHER_PARTS} and _folders(root / "train", root):
        parts = [(root / name, name == "test") for name in ("train", "test") if name in names]
        others = [name for name in names if name not in ("train", "test")]
        if others:
            notes.append(f"not read: {first_few(others)} (only train and test are)")

    files: list[_File] = []
    for part, test in parts:
        for folder in _folders(part, root):
            found = _images(folder, root, passed)
            if not found:
                notes.append(f"class folder without images left out: {folder.relative_to(root).as_posix()!r}")
            files += [_File(path, _label(folder.name), test) for path in found]
    if passed:
        names = [path.relative_to(root).as_posix() for path in passed]
        notes.append(f"{len(passed):,} files that are no images left out ({first_few(names)})")
    return files, notes


def _label(name: str) -> str:
    """The class name: one spelling of each accented letter, and printable whatever the bytes were."""
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "replace"))


def _visible(folder: Path, root: Path) -> list[Path]:
    """What a folder holds, sorted, without hidden names; a link that leads out of the root is refused."""
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for path in entries:
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise DataError(f"{show(path)} is a link that leaves the folder: copy what it points to instead")
    return entries


def _folders(folder: Path, root: Path) -> list[Path]:
    return [path for path in _visible(folder, root) if path.is_dir()]


def _images(folder: Path, root: Path, passed: list[Path]) -> list[Path]:
    """The image files below a class folder; others are added to ``passed``."""
    found: list[Path] = []
    for path in _visible(folder, root):
        if path.is_dir():
            # Links between folders could go round in circles, and would count images twice.
            if path.is_symlink():
                passed.append(path)
            else:
                found += _images(path, root, passed)
        elif path.suffix.lower() in SUFFIXES:
            found.append(path)
        else:
            passed.append(path)
    return found


def _open(path: Path) -> Image.Image:
    """Open an image without decoding it. Raises: whatever Pillow raises for a broken file."""
    from PIL import Image

    if not path.is_file():
        raise DataError("no regular file")
    return Image.open(path, formats=FORMATS)


def _header_sizes(files: list[_File], bad: dict[Path, str]) -> dict[Path, tuple[int, int]]:
    """Height and width of every image, before EXIF rotation, from its header alone."""
    sizes: dict[Path, tuple[int, int]] = {}
    with warnings.catch_warnings():
        _strict_about_bombs()
        for file in files:
            try:
                with _open(file.path) as image:
                    sizes[file.path] = (image.height, image.width)
            except Exception as error:  # a broken image can raise nearly anything
                bad[file.path] = _reason(error)
    return sizes


def _strict_about_bombs() -> None:
    """Pillow only warns of a suspiciously large image; its other warnings are about odd metadata."""
    from PIL import Image

    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def _reason(error: Exception) -> str:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):  # its text repeats the path
        return "no image"
    if isinstance(error, Image.DecompressionBombWarning | Image.DecompressionBombError):
        return f"more than {Image.MAX_IMAGE_PIXELS:,} pixels"
    if isinstance(error, OSError) and error.strerror:  # its text repeats the path
        return error.strerror
    return one_line(error)


def _common_side(files: list[_File], sizes: dict[Path, tuple[int, int]], image_size: int | None) -> int:
    if image_size is not None:
        return image_size
    sides = [min(sizes[file.path]) for file in files if not file.test]
    return min(LARGEST_DEFAULT, statistics.median_low(sides)) if sides else LARGEST_DEFAULT


def _decode(
    files: list[_File],
    sizes: dict[Path, tuple[int, int]],
    side: int,
    image_size: int | None,
    bad: dict[Path, str],
) -> list[NDArray[Any]]:
    """The images (h, w, c), resized one by one where they cannot all be kept as they are."""
    distinct = {sizes[file.path] for file in files}
    resize = len(distinct) > 1
    if len(distinct) == 1:
        shape = (len(files), *distinct.pop(), 3)
        if image_size is None:
            require_budget(shape, 4, "the folder of images")  # as float32
        else:
            resize = np.prod(shape, dtype=float) > MAX_BYTES / 4
    images: list[NDArray[Any]] = []
    with warnings.catch_warnings():
        _strict_about_bombs()
        for file in files:
            try:
                with _open(file.path) as image:
                    pixels = _pixels(image)
            except Exception as error:  # a broken image can raise nearly anything
                bad[file.path] = _reason(error)
            else:
                images.append(_resized(pixels, side) if resize else pixels)
    return images


def _pixels(image: Image.Image) -> NDArray[Any]:
    """The decoded image (h, w, c): uint8, or uint16 for 16-bit gray; c is 1 for gray, otherwise 3."""
    from PIL import ImageOps

    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        deep: NDArray[np.uint16] = np.clip(np.asarray(image), 0, 65535).astype(np.uint16)
        return deep[..., None]
    if image.mode in ("1", "L") and "transparency" not in image.info:
        return np.asarray(image.convert("L"))[..., None]
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA")).astype(np.uint32)
        pixels = ((rgba[..., :3] * rgba[..., 3:] + 127) // 255).astype(np.uint8)
    else:
        pixels = np.asarray(image.convert("RGB"))
    channels = 1 if (pixels == pixels[..., :1]).all() else 3
    return pixels[..., :channels]


def _resized(pixels: NDArray[Any], side: int) -> NDArray[np.float32]:
    """An image of any size as (side, side, c) with values in [0, 1]."""
    scale = 1.0 if pixels.dtype.kind == "f" else float(np.iinfo(pixels.dtype).max)
    average: NDArray[np.float64] = area_average(pixels[None], (side, side))[0]
    return (average / scale).astype(np.float32)


def _stack(images: list[NDArray[Any]], side: int) -> tuple[NDArray[Any], float, bool]:
    """All images in one array, the value of white, and whether sizes had to be made equal."""
    mixed = images[0].dtype.kind == "f"
    if len({image.shape[:2] for image in images}) > 1:  # some are rotated
        images, mixed = [_resized(image, side) for image in images], True
    channels = max(image.shape[2] for image in images)
    dtype = max((image.dtype for image in images), key=lambda dtype: dtype.itemsize)
    x = np.empty((len(images), *images[0].shape[:2], channels), dtype=dtype)
    for row, image in zip(x, images, strict=True):
        # Bytes become the 16-bit value of the same brightness: 255 * 257 = 65535.
        row[:] = image.astype(np.uint16) * 257 if dtype == np.uint16 != image.dtype else image
    return x, 1.0 if mixed else float(np.iinfo(dtype).max), mixed
