"""npz: arrays ``x`` (n, h, w[, c]) and ``y`` (integers or strings), optional ``x_test`` and ``y_test``."""

from __future__ import annotations

import io
import math
import sys
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from nas_cntk.data.dataset import Raw
from nas_cntk.data.sources import Source, first_few, one_line, require_budget, require_file, show
from nas_cntk.errors import DataError

MOST_HEADER = 1 << 16  # bytes; NumPy writes some hundred, and a header may declare gigabytes
# What numpy.savez writes. The others are unpacked without a limit, some bytes to gigabytes.
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read(source: Source) -> Raw:
    """Read the arrays; uint8 pixels are divided by 255, others taken as they are.

    Raises: DataError.
    """
    path = source.path
    with opened(path, "an npz file with arrays x and y") as archive:
        members = members_of(archive)
        for name in ("x", "y"):
            if name not in members:
                there = first_few(sorted(members), 6) or "none"
                raise DataError(f"{show(path)} has no array {name!r} but {there}: x and y are needed")
        if ("x_test" in members) != ("y_test" in members):
            raise DataError(f"{show(path)} has one of x_test and y_test: store both or neither")
        arrays = arrays_of(archive, [name for name in ("x", "y", "x_test", "y_test") if name in members])

    x, y = images_of(arrays["x"], "x"), _labels(arrays["y"])
    x_test = images_of(arrays["x_test"], "x_test") if "x_test" in arrays else None
    y_test = _labels(arrays["y_test"]) if "y_test" in arrays else None
    if x_test is not None and x_test.dtype != x.dtype:
        raise DataError(f"x is {x.dtype} but x_test {x_test.dtype}: store both with one dtype, they scale alike")
    return Raw(path.stem, x, y, 255.0 if x.dtype == np.uint8 else 1.0, x_test, y_test)


@contextmanager
def opened(path: Path, what: str) -> Iterator[zipfile.ZipFile]:
    """Open an npz file; whatever is raised while it is read says that it is broken.

    Raises: DataError.
    """
    require_file(path, what)
    if not zipfile.is_zipfile(path):
        raise DataError(f"{show(path)} is no npz file, or a truncated one: write it with numpy.savez")
    try:
        with warnings.catch_warnings(), zipfile.ZipFile(path) as archive:
            warnings.simplefilter("ignore")  # of NumPy and of Python's parser, about odd headers
            yield archive
    except (DataError, MemoryError):
        raise
    except Exception as error:  # a broken archive or header can raise nearly anything
        raise DataError(f"{show(path)} cannot be read ({one_line(error)}): write it again") from None


def members_of(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The members of an npz file by the names of their arrays."""
    return {info.filename.removesuffix(".npy"): info for info in archive.infolist()}


def arrays_of(archive: zipfile.ZipFile, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Some arrays, after a look at all their headers: no pickles, and no more bytes than the budget allows.

    Raises: DataError.
    """
    members, total = members_of(archive), 0
    for name in names:
        shape, dtype = _header(archive, members[name], name)
        # Bytes are decoded, to four bytes a letter.
        cost = max(1, dtype.itemsize) * (5 if dtype.kind == "S" else 1)
        require_budget(shape, cost, f"array {name!r}")
        total += math.prod(shape) * cost
    require_budget((total,), 1, "all arrays together, in bytes,")
    return {name: _array(archive, members[name], name) for name in names}


def _header(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape and dtype that an array declares."""
    if info.compress_type not in METHODS:
        raise DataError(f"array {name!r} is compressed in a way that numpy has not: write it with numpy.savez")
    with archive.open(info) as stream:
        head = io.BytesIO(stream.read(MOST_HEADER))
    version = npy_format.read_magic(head)
    if version not in ((1, 0), (2, 0)):
        raise DataError(f"array {name!r} has npy format {version}: store a plain array of numbers or strings")
    header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    shape, _, dtype = header(head)
    if dtype.hasobject:
        raise DataError(
            f"array {name!r} holds Python objects (images of mixed sizes, or no numbers), which are never "
            "unpickled: store one array of one shape"
        )
    return shape, dtype


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> NDArray[Any]:
    """One array, whose header was looked at."""
    with archive.open(info) as stream:
        array: NDArray[Any] = npy_format.read_array(stream, allow_pickle=False)
        if stream.read(1):  # reading to the end also checks the CRC
            raise DataError(f"array {name!r} has more bytes than its header says: write the file again")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def images_of(x: NDArray[Any], name: str) -> NDArray[Any]:
    """An array as images (n, h, w, c).

    Raises: DataError.
    """
    if x.ndim not in (3, 4):
        raise DataError(f"array {name!r} has shape {x.shape}: (n, height, width) or (n, height, width, channels)")
    if x.ndim == 4 and x.shape[1] == 3 and x.shape[2] == x.shape[3] > 4:
        raise DataError(f"array {name!r} has shape {x.shape}, channels first: transpose it to (n, h, w, channels)")
    return x[..., None] if x.ndim == 3 else x


def _labels(y: NDArray[Any]) -> NDArray[Any]:
    """Labels with byte strings decoded; dtypes are judged where all readers meet.

    Raises: DataError for strings that are none: NumPy takes any four bytes for a letter.
    """
    if y.dtype.kind == "U" and y.nbytes and np.ascontiguousarray(y).reshape(-1).view(np.uint32).max() > sys.maxunicode:
        raise DataError("labels are strings that hold no Unicode: store text")
    if y.dtype.kind != "S":
        return y
    try:
        return np.char.decode(y, "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"labels are byte strings that are no UTF-8 ({one_line(error)}): store text") from None
