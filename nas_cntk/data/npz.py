"""npz: arrays ``x`` (n, h, w[, c]) and ``y`` (integers or strings), optional ``x_test`` and ``y_test``."""

from __future__ import annotations

import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from nas_cntk.data.dataset import Raw
from nas_cntk.data.sources import Source, first_few, one_line, require_budget, require_file, show
from nas_cntk.errors import DataError

# RuntimeError: an encrypted member; NotImplementedError: an unknown compression.
UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    ValueError,
    SyntaxError,
    RuntimeError,
    NotImplementedError,
    OSError,
)


def read(source: Source) -> Raw:
    """Read the arrays; uint8 pixels are divided by 255, others taken as they are.

    Raises: DataError.
    """
    path = source.path
    require_file(path, "an npz file with arrays x and y")
    if not zipfile.is_zipfile(path):
        raise DataError(f"{show(path)} is no npz file, or a truncated one: write it with numpy.savez")
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            for name in ("x", "y"):
                if name not in members:
                    there = first_few(sorted(members), 6) or "none"
                    raise DataError(f"{show(path)} has no array {name!r} but {there}: x and y are needed")
            if ("x_test" in members) != ("y_test" in members):
                raise DataError(f"{show(path)} has one of x_test and y_test: store both or neither")
            arrays = {
                name: _array(archive, members[name], name) for name in ("x", "y", "x_test", "y_test") if name in members
            }
    except UNREADABLE as error:
        raise DataError(f"{show(path)} cannot be read ({one_line(error)}): write it again") from None

    x, y = _images(arrays["x"], "x"), _labels(arrays["y"])
    x_test = _images(arrays["x_test"], "x_test") if "x_test" in arrays else None
    y_test = _labels(arrays["y_test"]) if "y_test" in arrays else None
    if x_test is not None and x_test.dtype != x.dtype:
        raise DataError(f"x is {x.dtype} but x_test {x_test.dtype}: store both with one dtype, they scale alike")
    return Raw(path.stem, x, y, 255.0 if x.dtype == np.uint8 else 1.0, x_test, y_test)


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> NDArray[Any]:
    """One array, after a look at its header: no pickles, and no more bytes than the budget allows."""
    with archive.open(info) as stream:
        version = npy_format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise DataError(f"array {name!r} has npy format {version}: store a plain array of numbers or strings")
        header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        shape, _, dtype = header(stream)
    if dtype.hasobject:
        raise DataError(
            f"array {name!r} holds Python objects (images of mixed sizes, or no numbers), which are never "
            "unpickled: store one array of one shape"
        )
    require_budget(shape, dtype.itemsize, f"array {name!r}")
    with archive.open(info) as stream:
        array: NDArray[Any] = npy_format.read_array(stream, allow_pickle=False)
        if stream.read(1):  # reading to the end also checks the CRC
            raise DataError(f"array {name!r} has more bytes than its header says: write the file again")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _images(x: NDArray[Any], name: str) -> NDArray[Any]:
    if x.ndim not in (3, 4):
        raise DataError(f"array {name!r} has shape {x.shape}: (n, height, width) or (n, height, width, channels)")
    if x.ndim == 4 and x.shape[1] == 3 and x.shape[2] == x.shape[3] > 4:
        raise DataError(f"array {name!r} has shape {x.shape}, channels first: transpose it to (n, h, w, channels)")
    return x[..., None] if x.ndim == 3 else x


def _labels(y: NDArray[Any]) -> NDArray[Any]:
    """Labels with byte strings decoded; dtypes are judged where all readers meet."""
    if y.dtype.kind != "S":
        return y
    try:
        return np.char.decode(y, "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"labels are byte strings that are no UTF-8 ({one_line(error)}): store text") from None
