"""folder: one folder of images a class, or ``train/`` and ``test/`` with one folder a class each.

PNG, JPEG, BMP, GIF and WebP are read, of any size and mode:

* Sizes. Images of one size stay as they are. ``--image-size N`` brings all to N x N by area averaging
  (nothing is cropped); images of several sizes need it. An image smaller than N is an error.
* Channels. One where every image is gray (also one stored in colour), otherwise red, green, blue.
  Transparent pixels are laid on black. Palettes are looked up, 16-bit gray keeps its 16 bits.
* The rotation that a camera notes in EXIF is applied. Of an animated image the first frame is read.
* Classes are numbered in the order of their names. Hidden files and folders and files of other types are
  left out, and so are class folders without images. Folders inside a class folder belong to the class.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_cntk.data.dataset import Raw
from nas_cntk.data.folder_files import File, list_files
from nas_cntk.data.image_file import Header, header_of, open_image, pixels_of, reason, strict_about_bombs
from nas_cntk.data.preprocessing import area_average
from nas_cntk.data.sources import MAX_BYTES, Source, first_few, require_budget, require_folder, show
from nas_cntk.errors import DataError

SUGGESTED = 16  # pixels a side, of images of several sizes: what a search on a CPU can afford
TINY = 0.05  # of the images, which may be smaller than that and be left out: thumbnails, icons
WHAT = "a folder of class folders with images, or of train/ and test/ with class folders"


@dataclass(frozen=True, slots=True)
class Survey:
    """What a folder holds, by the headers of its images."""

    root: Path
    files: tuple[File, ...]  # all of them
    headers: Mapping[Path, Header]  # of those that have a readable one
    bad: Mapping[Path, str]  # the others, and why
    notes: tuple[str, ...]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of every readable image."""
        return [header.size for header in self.headers.values()]

    def suggestion(self) -> int:
        """Return a side that suits images of several sizes: at most 16, and few images are smaller."""
        sides = sorted(min(size) for size in self.sizes)
        return min(SUGGESTED, sides[int(TINY * len(sides))])

    def name(self, path: Path) -> str:
        """Return how a file is called in messages."""
        return path.relative_to(self.root).as_posix()


def survey(folder: Path) -> Survey:
    """Look at every file of a folder without decoding pixels.

    Raises: DataError where it is no folder of class folders with images.
    """
    require_folder(folder, WHAT)
    root = folder.resolve()
    files, notes = list_files(root)
    if not files:
        raise DataError(f"{show(folder)} holds no images in class folders: give {WHAT}")
    headers: dict[Path, Header] = {}
    bad: dict[Path, str] = {}
    with warnings.catch_warnings():
        strict_about_bombs()
        for file in files:
            try:
                headers[file.path] = header_of(file.path)
            except Exception as error:  # a broken image can raise nearly anything
                bad[file.path] = reason(error)
    return Survey(root, tuple(files), headers, bad, tuple(notes))


def read(source: Source) -> Raw:
    """Read every image of a folder.

    Raises: DataError, also for unreadable images unless ``skip_bad`` leaves them out.
    """
    seen = survey(source.path)
    side = source.image_size
    bad = dict(seen.bad)
    if side is None:
        _require_one_size(seen)
    else:
        small = {
            path: f"only {header.size[0]} x {header.size[1]} pixels"
            for path, header in seen.headers.items()
            if min(header.size) < side
        }
        if small and not source.skip_bad:
            raise DataError(
                f"--image-size {side} is above the size of {len(small):,} images "
                f"({_few(small, seen)}): use at most {min(min(seen.headers[path].size) for path in small)}, "
                "or leave them out (--skip-bad)"
            )
        bad |= small
    images = _decode([file for file in seen.files if file.path not in bad], seen, side, bad)
    files = [file for file in seen.files if file.path not in bad]
    notes = list(seen.notes)
    if bad:
        count = f"{len(bad):,} of {len(seen.files):,} images cannot be used"
        if not source.skip_bad:
            raise DataError(f"{count} ({_few(bad, seen)}): repair them, or leave them out (--skip-bad)")
        notes.append(f"{count} and are left out ({_few(bad, seen)})")
    if not any(not file.test for file in files):
        raise DataError(f"{show(source.path)} holds no readable training images: give {WHAT}")

    x, divisor = _stack(images, side)
    labels = np.array([file.label for file in files])
    test = np.array([file.test for file in files])
    left_out = tuple((seen.name(path), why) for path, why in bad.items())
    if not test.any():
        return Raw(seen.root.name, x, labels, divisor, notes=tuple(notes), left_out=left_out)
    return Raw(seen.root.name, x[~test], labels[~test], divisor, x[test], labels[test], tuple(notes), left_out)


def _few(reasons: Mapping[Path, str], seen: Survey) -> str:
    return first_few(f"{seen.name(path)}: {why}" for path, why in reasons.items())


def _require_one_size(seen: Survey) -> None:
    sizes = sorted(set(seen.sizes), key=lambda size: (size[0] * size[1], size))
    if len(sizes) > 1:
        side = seen.suggestion()
        lost = sum(min(size) < side for size in seen.sizes) + len(seen.bad)
        how = f"--image-size {side}"
        if lost:
            how += f" --skip-bad, which leaves out {lost:,} that are smaller or cannot be read"
        raise DataError(
            f"{show(seen.root)} holds images of {len(sizes):,} sizes, from {_words(sizes[0])} to {_words(sizes[-1])}: "
            f"bring them to one size, for example with {how}"
        )


def _words(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _decode(files: Sequence[File], seen: Survey, side: int | None, bad: dict[Path, str]) -> list[NDArray[Any]]:
    """The images (h, w, c), resized one by one where they cannot all be kept as they are; unreadable ones go to bad."""
    distinct = {seen.headers[file.path].size for file in files}
    resize = len(distinct) > 1
    if len(distinct) == 1:
        shape = (len(files), *distinct.pop(), 3)
        if side is None:
            require_budget(shape, 4, "the folder of images")  # as float32
        else:
            resize = np.prod(shape, dtype=float) > MAX_BYTES / 4
    images: list[NDArray[Any]] = []
    with warnings.catch_warnings():
        strict_about_bombs()
        for file in files:
            try:
                with open_image(file.path) as image:
                    pixels = pixels_of(image)
                if side is not None and min(pixels.shape[:2]) < side:
                    raise DataError(f"only {pixels.shape[0]} x {pixels.shape[1]} pixels")
            except Exception as error:  # a broken image can raise nearly anything
                bad[file.path] = reason(error)
            else:
                images.append(_resized(pixels, side) if resize and side is not None else pixels)
    return images


def _resized(pixels: NDArray[Any], side: int) -> NDArray[np.float32]:
    """An image of any size as (side, side, c) with values in [0, 1]."""
    scale = 1.0 if pixels.dtype.kind == "f" else float(np.iinfo(pixels.dtype).max)
    average: NDArray[np.float64] = area_average(pixels[None], (side, side))[0]
    return (average / scale).astype(np.float32)


def _stack(images: list[NDArray[Any]], side: int | None) -> tuple[NDArray[Any], float]:
    """All images in one array, and the value of white."""
    if len({image.shape[:2] for image in images}) > 1:
        # The header of a rare PNG says only after its pixels that it is turned.
        if side is None:
            raise DataError("images of several sizes, once turned as EXIF says: bring them to one with --image-size")
        images = [_resized(image, side) for image in images]
    channels = max(image.shape[2] for image in images)
    dtype = max((image.dtype for image in images), key=lambda dtype: dtype.itemsize)
    x = np.empty((len(images), *images[0].shape[:2], channels), dtype=dtype)
    for row, image in zip(x, images, strict=True):
        # Bytes become the 16-bit value of the same brightness: 255 * 257 = 65535.
        row[:] = image.astype(np.uint16) * 257 if dtype == np.uint16 != image.dtype else image
    return x, 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)
