"""Images to predict: read as a search reads them, but labels are no duty, and folders keep the names of their files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_cntk import data
from nas_cntk.data import folder_files, idx, image_file, npz
from nas_cntk.data.preprocessing import area_average, to_float
from nas_cntk.data.sources import Source, first_few, one_line, require_budget, require_file, require_folder, show
from nas_cntk.errors import DataError
from nas_cntk.export.manifest import Resize

Shape = tuple[int, int, int]  # (h, w, c)


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Images of a model's shape, pixel values not standardised, each with a name.

    `labels` are the names of the classes where the data say them. `notes` are sentences that the screen must show.
    """

    names: tuple[str, ...]
    x: NDArray[np.float32]  # shape: (n, h, w, c)
    labels: tuple[str, ...] | None
    what: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Stored:
    """Images as a file holds them: `x / divisor` are the pixel values."""

    x: NDArray[Any]
    divisor: float
    labels: NDArray[Any] | None
    what: str


def read_images(spec: str, shape: Shape, *, resize: Resize, skip_bad: bool = False) -> Images:
    """Read the images to predict: the test images where the data bring a test set of their own, else all.

    `npz` needs no `y`, `idx` no file of labels, `folder` no class folders: images that lie in it loose, or anywhere
    below it where it has no class folders, are read.

    Args:
        spec: as `data.load` takes it, or the path of one image file.
        shape: (h, w, c) of what the model reads.
        resize: what becomes of images of another height and width.

    Raises:
        DataError: on data that cannot be read, or images that are not of the shape.
    """
    kind, _, place = spec.partition(":")
    if kind in ("npz", "idx", "folder") and place:
        with _one_line_errors(spec):
            path = Path(place).expanduser()
            if kind == "folder":
                return _from_folder(path, shape, resize, skip_bad)
            return _shaped(_from_npz(path) if kind == "npz" else _from_idx(path), shape, resize)
    if kind in ("digits", "cifar10"):
        with _one_line_errors(spec):
            if (kind == "digits") == bool(place):
                data.load(spec)  # says what is wrong with it
            raw = data.READERS[kind](Source(Path(place).expanduser()))
            assert raw.x_test is not None
            return _shaped(_Stored(raw.x_test, raw.divisor, raw.labels_test, "test images"), shape, resize)
    if kind not in data.READERS and Path(spec).suffix.lower() in folder_files.SUFFIXES:
        with _one_line_errors(spec):
            return _from_file(Path(spec).expanduser(), shape, resize)
    data.load(spec)
    raise AssertionError(f"a reader without a way to predict: {kind}")


@contextmanager
def _one_line_errors(spec: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{spec!r} cannot be read: {error.strerror or one_line(error)}") from None
    except RuntimeError as error:  # no home directory for "~someone"
        raise DataError(f"{spec!r} cannot be read: {one_line(error)}") from None
    except MemoryError:
        raise DataError(f"{spec!r} does not fit into memory: predict fewer images at a time") from None


def _shaped(stored: _Stored, shape: Shape, resize: Resize) -> Images:
    x, (h, w, c) = stored.x, shape
    if x.dtype.kind not in "buif":
        raise DataError(f"the images are {x.dtype}, no pixel values: store integers or floats")
    if 0 in x.shape:
        raise DataError(f"the images have shape {x.shape}: there is nothing to predict")
    x = _channels(x, c, "the images have")
    _check_size("the images have", x.shape[1], x.shape[2], shape, resize)
    require_budget((len(x), *shape), 4, "the images")
    scaled = to_float(x, stored.divisor, (h, w))
    if not np.isfinite(scaled).all():
        bad = int((~np.isfinite(scaled).all(axis=(1, 2, 3))).argmax())
        raise DataError(f"image {bad} holds NaN, infinite or too large pixels: repair or drop it")
    labels = None if stored.labels is None else tuple(str(label) for label in stored.labels)
    if labels is not None and len(labels) != len(x):
        raise DataError(f"{len(x):,} images but {len(labels):,} labels: store one label an image, or none")
    return Images(tuple(map(str, range(len(x)))), scaled, labels, stored.what)


def _channels(x: NDArray[Any], channels: int, what: str) -> NDArray[Any]:
    """Return x, shape (..., c), with the channels of the model; gray becomes colour, colour never gray."""
    if x.shape[-1] == channels:
        return x
    if x.shape[-1] == 1 and channels == 3:
        return np.repeat(x, 3, axis=-1)
    raise DataError(f"{what} {x.shape[-1]} channels, the model reads {channels}: give images like those it was made of")


def _check_size(what: str, height: int, width: int, shape: Shape, resize: Resize) -> None:
    h, w, _ = shape
    if (height, width) == (h, w):
        return
    if resize == "never":
        raise DataError(f"{what} {height} x {width} pixels, the model reads {h} x {w}: bring them to that size")
    if resize == "shrink" and (height < h or width < w):
        raise DataError(
            f"{what} {height} x {width} pixels, fewer than the {h} x {w} the model reads: give larger images"
        )


def _from_npz(path: Path) -> _Stored:
    with npz.opened(path, "an npz file with an array x") as archive:
        members = npz.members_of(archive)
        if "x_test" not in members and "y" not in members and "x" in members:
            x = npz.images_of(npz.arrays_of(archive, ["x"])["x"], "x")
            return _Stored(x, 255.0 if x.dtype == np.uint8 else 1.0, None, "images")
    raw = npz.read(Source(path))  # with labels, as a search wants it; or the reason why not
    if raw.x_test is None:
        return _Stored(raw.x, raw.divisor, raw.labels, "images")
    return _Stored(raw.x_test, raw.divisor, raw.labels_test, "test images")


def _from_idx(path: Path) -> _Stored:
    require_folder(path, idx.WHAT)
    for images, labels, what in (("t10k-images", "t10k-labels", "test images"), ("train-images", "train-labels", "")):
        found, named = idx._find(path, images, 3), idx._find(path, labels, 1)
        if found is not None:
            read = None if named is None else idx._read(named, 1)
            return _Stored(idx._read(found, 3)[..., None], 255.0, read, what or "images")
    raise DataError(f"{show(path)} has no t10k-images-idx3-ubyte or train-images-idx3-ubyte (plain or .gz): give one")


def _from_folder(path: Path, shape: Shape, resize: Resize, skip_bad: bool) -> Images:
    require_folder(path, "a folder with images")
    root = path.resolve()
    files, labels, notes, what = _files(root)
    if not files:
        raise DataError(f"{show(path)} holds no images: give a folder with {', '.join(folder_files.SUFFIXES)} files")
    require_budget((len(files), *shape), 4, "the folder of images")
    kept: list[int] = []
    images: list[NDArray[np.float32]] = []
    bad: dict[Path, str] = {}
    with warnings.catch_warnings():
        image_file.strict_about_bombs()
        for number, file in enumerate(files):
            try:
                images.append(_image(file, shape, resize))
                kept.append(number)
            except Exception as error:  # a broken image can raise nearly anything
                bad[file] = image_file.reason(error)
    if bad:
        few = first_few(f"{file.relative_to(root).as_posix()}: {reason}" for file, reason in bad.items())
        count = f"{len(bad):,} of {len(files):,} images cannot be used"
        if not skip_bad or not kept:
            mend = "repair them, or leave them out (--skip-bad)" if kept else "give images that the model can read"
            raise DataError(f"{count} ({few}): {mend}")
        notes = [*notes, f"{count} and are left out ({few})"]
    names = tuple(_printable(files[number].relative_to(root).as_posix()) for number in kept)
    known = None if labels is None else tuple(labels[number] for number in kept)
    return Images(names, np.stack(images), known, what, tuple(notes))


def _from_file(path: Path, shape: Shape, resize: Resize) -> Images:
    require_file(path, "an image file")
    with warnings.catch_warnings():
        image_file.strict_about_bombs()
        try:
            x = _image(path, shape, resize)
        except Exception as error:  # a broken image can raise nearly anything
            raise DataError(f"{show(path)} cannot be used: {image_file.reason(error)}") from None
    return Images((_printable(path.name),), x[None], None, "images")


def _files(root: Path) -> tuple[list[Path], Sequence[str] | None, list[str], str]:
    """Return the image files in order, their classes if they lie in class folders, notes, and what they are."""
    loose = [path for path in folder_files.visible(root, root) if path.suffix.lower() in folder_files.SUFFIXES]
    if any(path.is_file() for path in loose):
        return [path for path in loose if path.is_file()], None, _ignored(root), "images"
    found, notes = folder_files.list_files(root)
    test = [file for file in found if file.test]
    chosen = test or found
    return [file.path for file in chosen], [file.label for file in chosen], notes, "test images" if test else "images"


def _ignored(root: Path) -> list[str]:
    below = [folder.name for folder in folder_files.folders(root, root)]
    return [f"not read: the folders {first_few(below)} beside the images"] if below else []


def _image(file: Path, shape: Shape, resize: Resize) -> NDArray[np.float32]:
    """Return an image as the reader of folders scales it, at the model's size."""
    with image_file.open_image(file) as opened:
        pixels = image_file.pixels_of(opened)
    white = float(np.iinfo(pixels.dtype).max)
    pixels = _channels(pixels, shape[2], "it has")
    if pixels.shape[:2] == shape[:2]:
        same: NDArray[np.float32] = pixels.astype(np.float32) / np.float32(white)
        return same
    _check_size("it has", pixels.shape[0], pixels.shape[1], shape, resize)
    average: NDArray[np.float64] = area_average(pixels[None], shape[:2])[0]
    return (average / white).astype(np.float32)


def _printable(name: str) -> str:
    return "".join(char if char.isprintable() else "�" for char in name.encode("utf-8", "replace").decode())
