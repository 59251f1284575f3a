"""idx: a folder with the four files of MNIST and its relatives, plain or gzip-compressed."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from nas_cntk.data.dataset import Raw
from nas_cntk.data.sources import Source, one_line, require_budget, require_file, require_folder, show
from nas_cntk.errors import DataError

BLOCK = 1 << 24  # bytes read at a time
UBYTE = 0x08  # the type code of unsigned bytes in an IDX header
WHAT = "a folder with train-images-idx3-ubyte and train-labels-idx1-ubyte, plain or .gz"


def read(source: Source) -> Raw:
    """Read the training pair, and the ``t10k`` pair as the test set where it is there.

    Images are bytes (n, h, w), divided by 255.

    Raises: DataError.
    """
    folder = source.path
    require_folder(folder, WHAT)
    images, labels = _find(folder, "train-images", 3), _find(folder, "train-labels", 1)
    if images is None or labels is None:
        missing = "train-images-idx3-ubyte" if images is None else "train-labels-idx1-ubyte"
        raise DataError(f"{show(folder)} has no {missing} (plain or .gz): give {WHAT}")
    test_images, test_labels = _find(folder, "t10k-images", 3), _find(folder, "t10k-labels", 1)
    if (test_images is None) != (test_labels is None):
        raise DataError(f"{show(folder)} has one of t10k-images and t10k-labels: keep both or neither")
    return Raw(
        name=folder.resolve().name,
        x=_read(images, 3)[..., None],
        labels=_read(labels, 1),
        divisor=255.0,
        x_test=None if test_images is None else _read(test_images, 3)[..., None],
        labels_test=None if test_labels is None else _read(test_labels, 1),
    )


def _find(folder: Path, stem: str, dims: int) -> Path | None:
    """The file of this stem under any of its usual names."""
    for separator in "-.":
        for suffix in ("", ".gz"):
            path = folder / f"{stem}{separator}idx{dims}-ubyte{suffix}"
            if path.exists() or path.is_symlink():
                return path
    return None


def _read(path: Path, dims: int) -> NDArray[np.uint8]:
    """The array of one file, checked against its header byte for byte.

    Raises: DataError.
    """
    require_file(path, "an IDX file")
    try:
        stream: IO[bytes] | gzip.GzipFile
        with path.open("rb") as probe:
            compressed = probe.read(2) == b"\x1f\x8b"
        with gzip.open(path) if compressed else path.open("rb") as stream:
            return _parse(stream, path, dims)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{show(path)} is truncated or no gzip file ({one_line(error)}): fetch it again") from None


def _parse(stream: Any, path: Path, dims: int) -> NDArray[np.uint8]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise DataError(f"{show(path)} is no IDX file: it begins with {magic!r}")
    if magic[2] != UBYTE or magic[3] != dims:
        raise DataError(
            f"{show(path)} holds type 0x{magic[2]:02x} in {magic[3]} dimensions: unsigned bytes (0x08) in "
            f"{dims} {'dimension' if dims == 1 else 'dimensions'} are due"
        )
    head = stream.read(4 * dims)
    if len(head) < 4 * dims:
        raise DataError(f"{show(path)} is truncated: its header ends early; fetch it again")
    shape = tuple(int(size) for size in np.frombuffer(head, dtype=">u4"))
    require_budget(shape, 1, show(path))
    due, found = math.prod(shape), 0
    body = np.empty(due, dtype=np.uint8)  # read into, so that what unpacks to gigabytes is there once
    while found < due and (block := stream.read(min(due - found, BLOCK))):
        body[found : found + len(block)] = np.frombuffer(block, dtype=np.uint8)
        found += len(block)
    if found < due:
        raise DataError(f"{show(path)} is truncated: {found:,} of {due:,} bytes are there; fetch it again")
    if stream.read(1):
        raise DataError(f"{show(path)} has more than the {due:,} bytes that its header says: fetch it again")
    return body.reshape(shape)
