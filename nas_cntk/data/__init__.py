"""Datasets: readers, preprocessing and splits.

``load`` reads one of the formats in ``READERS``; ``standardise`` and ``split`` make of it what a kernel
is computed on. The same images and labels with the same test set give the same split, and so the same
scores, in any format and in any storage order: an IDX set or a folder of PNGs made from ``digits`` does
(pixels stored as 15 times the value 0..16, the official training and test images under ``train-*`` and
``t10k-*``, or in ``train/CLASS/`` and ``test/CLASS/``).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nas_cntk.data import cifar10, digits, folder, idx, npz
from nas_cntk.data.assembly import assemble
from nas_cntk.data.dataset import Dataset, Raw
from nas_cntk.data.folder_files import SUFFIXES
from nas_cntk.data.preprocessing import standardise
from nas_cntk.data.sources import Source, one_line, show
from nas_cntk.data.splits import Split, split
from nas_cntk.errors import DataError

__all__ = ["READERS", "Dataset", "Split", "assemble", "load", "read", "split", "standardise"]

READERS: dict[str, Callable[[Source], Raw]] = {
    "digits": digits.read,
    "cifar10": cifar10.read,
    "npz": npz.read,
    "idx": idx.read,
    "folder": folder.read,
}
FORMS = "digits, cifar10:PATH, npz:PATH, idx:DIR or folder:DIR"


def load(spec: str, *, image_size: int | None = None, download: bool = False, skip_bad: bool = False) -> Dataset:
    """Read a dataset: ``digits``, ``cifar10:PATH``, ``npz:PATH``, ``idx:DIR`` or ``folder:DIR``.

    ``image_size`` averages every image to that many rows and columns; ``download`` fetches CIFAR-10 to
    its path where nothing is there yet; ``skip_bad`` leaves unreadable images of a folder out.

    Raises: DataError, one line for whatever is wrong with the data.
    """
    with plain_errors(spec):
        return assemble(read(spec, image_size=image_size, download=download, skip_bad=skip_bad), spec, image_size)


def read(spec: str, *, image_size: int | None = None, download: bool = False, skip_bad: bool = False) -> Raw:
    """Read what ``load`` reads, as it is stored: not resized, nothing set aside (but see ``folder``).

    Raises: DataError, as ``load``.
    """
    kind, separator, place = spec.partition(":")
    if kind not in READERS:
        raise DataError(f"unknown data {spec!r}: {_suggestion(spec, kind)}use {FORMS}")
    if kind == "digits" and separator:
        raise DataError(f"{spec!r}: the digits come with the program and take no path; use digits")
    if kind != "digits" and not place:
        raise DataError(f"{spec!r} names no path: use {kind}:PATH")
    if image_size is not None and image_size < 1:
        raise DataError(f"--image-size {image_size} is no size: use 1 or more")
    with plain_errors(spec):
        return READERS[kind](Source(Path(place).expanduser(), image_size, download, skip_bad))


@contextmanager
def plain_errors(spec: str) -> Iterator[None]:
    """Turn what the system raises while data are read into one line that names them."""
    try:
        yield
    except RuntimeError as error:  # no home directory for "~someone"
        raise DataError(f"{spec!r} cannot be read: {one_line(error)}") from None
    except OSError as error:
        name = error.filename
        where = f" ({show(name)})" if isinstance(name, str) and name not in spec else ""
        raise DataError(f"{spec!r} cannot be read: {error.strerror or one_line(error)}{where}") from None
    except MemoryError:
        raise DataError(f"{spec!r} does not fit into memory: use fewer images or --image-size") from None


def _suggestion(spec: str, kind: str) -> str:
    close = difflib.get_close_matches(kind.lower(), READERS, n=1)
    if close:
        return f"did you mean {close[0]!r}? "
    path = Path(spec).expanduser() if not spec.startswith("~") else Path(spec)
    try:
        if path.is_dir():
            return f"for this folder, did you mean {'folder:' + spec!r}? "
        if path.is_file() and path.suffix.lower() in SUFFIXES:
            return "this is one image where many are due; "
        if path.is_file():
            return f"for this file, did you mean {'npz:' + spec!r}? "
    except (OSError, ValueError):
        pass
    return "" if ":" in spec else "there is no file or folder of this name; "
