"""Assembly: from what a reader read to a Dataset, with the checks that all readers share."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_cntk.data.dataset import Dataset, Raw
from nas_cntk.data.preprocessing import chunks, content_keys, to_float
from nas_cntk.data.sources import first_few, require_budget
from nas_cntk.data.splits import set_aside
from nas_cntk.errors import DataError

FINGERPRINT_LETTERS = 32
FINGERPRINT_VERSION = 1
LABEL_BYTES = 64  # an image costs this, however small it is, in sorting labels and in its content key


def assemble(raw: Raw, spec: str, image_size: int | None) -> Dataset:
    """Check, number the classes, set a test set aside where there is none, resize and scale.

    Raises: DataError.
    """
    _check_images(raw.x, "the training images")
    _check_labels(raw.labels, len(raw.x), "training")
    if raw.x_test is not None:
        _check_images(raw.x_test, "the test images")
        assert raw.labels_test is not None
        _check_labels(raw.labels_test, len(raw.x_test), "test")
        if raw.x_test.shape[1:] != raw.x.shape[1:]:
            raise DataError(
                f"mixed image sizes: training images are {_size(raw.x)}, test images {_size(raw.x_test)}; "
                "store all images at one size"
            )
    size = _target_size(raw.x, image_size)
    n = len(raw.x) + (0 if raw.x_test is None else len(raw.x_test))
    require_budget((n, *size, raw.x.shape[3]), 4, "the dataset")
    require_budget((n,), LABEL_BYTES + 3 * raw.labels.dtype.itemsize, "the list of labels")

    names, y_train = np.unique(raw.labels, return_inverse=True)
    if len(names) < 2:
        raise DataError(f"one class only ({str(names[0])!r}): a search needs images of at least two classes")
    x_train, y_train = raw.x, y_train.astype(np.int64)
    notes = raw.notes
    if raw.x_test is None:
        train, test, aside = set_aside(y_train)
        x_train, x_test = raw.x[train], raw.x[test]
        y_train, y_test = y_train[train], y_train[test]
        notes += aside
    else:
        assert raw.labels_test is not None
        x_test, y_test = raw.x_test, _number(raw.labels_test, names)
    classes = tuple(str(name) for name in names)

    return Dataset(
        name=raw.name,
        spec=spec,
        x_train=_scaled(x_train, raw.divisor, size),
        y_train=y_train,
        x_test=_scaled(x_test, raw.divisor, size),
        y_test=y_test,
        classes=classes,
        fingerprint=fingerprint((x_train, y_train, x_test, y_test), classes, raw.divisor, size),
        keys=content_keys(x_train),
        notes=notes,
        divisor=raw.divisor,
        test_given=raw.x_test is not None,
    )


def fingerprint(
    arrays: tuple[NDArray[Any], ...], classes: tuple[str, ...], divisor: float, size: tuple[int, int]
) -> str:
    """Hash of the arrays as they were read and of the size that images are brought to.

    Pixels are hashed before resizing, so that no rounding of another machine changes it.
    """
    header = {
        "version": FINGERPRINT_VERSION,
        "shapes": [array.shape for array in arrays],
        "dtypes": [array.dtype.newbyteorder("<").str for array in arrays],
        "classes": classes,
        "divisor": divisor,
        "size": size,
    }
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for array in arrays:
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(np.ascontiguousarray(little).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:FINGERPRINT_LETTERS]


def _check_images(x: NDArray[Any], what: str) -> None:
    if x.dtype.kind not in "buif":
        raise DataError(f"{what} are {x.dtype}, no pixel values: store integers or floats")
    if x.ndim != 4:
        raise DataError(f"{what} have shape {x.shape}: (n, height, width, channels) is due")
    if 0 in x.shape:
        raise DataError(f"{what} have shape {x.shape}: there is no pixel in them")
    if x.dtype.kind != "f":
        return
    for part in chunks(x):
        bad = ~np.isfinite(x[part]).all(axis=(1, 2, 3))
        if bad.any():
            first = part.start + int(bad.argmax())
            raise DataError(f"{what} hold NaN or infinite pixels (first in image {first}): repair or drop them")


def _check_labels(labels: NDArray[Any], n: int, what: str) -> None:
    if labels.dtype.kind not in "buiUT":
        raise DataError(f"{what} labels are {labels.dtype}: store integers or strings")
    if labels.ndim != 1:
        raise DataError(f"{what} labels have shape {labels.shape}: one label an image, shape ({n},), is due")
    if len(labels) != n:
        raise DataError(f"{n:,} {what} images but {len(labels):,} {what} labels: store one label an image")


def _target_size(x: NDArray[Any], image_size: int | None) -> tuple[int, int]:
    h, w = x.shape[1:3]
    if image_size is None:
        return h, w
    if image_size > min(h, w):
        raise DataError(
            f"--image-size {image_size} is above the images' {h} x {w}, and upscaling adds nothing: "
            f"use at most {min(h, w)}"
        )
    return image_size, image_size


def _number(labels: NDArray[Any], names: NDArray[Any]) -> NDArray[np.int64]:
    """Labels (m,) as positions among the training set's names."""
    if (labels.dtype.kind in "UT") != (names.dtype.kind in "UT"):
        raise DataError(f"test labels are {labels.dtype}, training labels {names.dtype}: store one kind of label")
    known = np.isin(labels, names)
    if not known.all():
        unknown = [str(name) for name in np.unique(labels[~known])]
        raise DataError(f"test labels without any training image: {first_few(unknown)}; add some or drop them")
    return np.searchsorted(names, labels).astype(np.int64)


def _scaled(x: NDArray[Any], divisor: float, size: tuple[int, int]) -> NDArray[np.float32]:
    out = to_float(x, divisor, size)
    if x.dtype.kind == "f" and not np.isfinite(out).all():
        raise DataError("pixel values are too large for float32: rescale them, to [0, 1] for example")
    return out


def _size(x: NDArray[Any]) -> str:
    _, h, w, c = x.shape
    return f"{h} x {w} x {c}"
