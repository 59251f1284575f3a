"""Dataset: images and labels of a training and a test set, and Raw: what a reader hands over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Training and test images with labels 0..K-1.

    ``fingerprint`` is a hash of everything read (pixels, labels, class names) and of the image size;
    standardising keeps it. ``keys`` orders the training images by content, whatever the storage order
    (None: the split computes them from ``x_train``). ``notes`` are sentences that the screen must show.
    ``divisor`` made pixel values of what was stored: 255 of bytes, 1 of what was taken as it is.
    """

    name: str
    spec: str
    x_train: NDArray[np.float32]  # shape: (n, h, w, c)
    y_train: NDArray[np.int64]  # shape: (n,)
    x_test: NDArray[np.float32]  # shape: (m, h, w, c)
    y_test: NDArray[np.int64]  # shape: (m,)
    classes: tuple[str, ...]
    fingerprint: str
    keys: NDArray[np.uint64] | None = None  # shape: (n,)
    notes: tuple[str, ...] = ()
    divisor: float = 1.0
    test_given: bool = True  # by the data; else it was set aside

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        _, h, w, c = self.x_train.shape
        return h, w, c

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)


@dataclass(frozen=True, slots=True, eq=False)
class Raw:
    """What a reader read, as it was stored: ``x / divisor`` are the pixel values.

    ``labels`` are integers or strings. Without a test set one fifth is set aside later. ``left_out`` are
    images that cannot be used, with the reason.
    """

    name: str
    x: NDArray[Any]  # shape: (n, h, w, c)
    labels: NDArray[Any]  # shape: (n,)
    divisor: float
    x_test: NDArray[Any] | None = None  # shape: (m, h, w, c)
    labels_test: NDArray[Any] | None = None  # shape: (m,)
    notes: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
