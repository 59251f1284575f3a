"""The images of a cell: the first ones of a dataset, standardised, at the size of its column."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nas_cntk import data
from nas_cntk.data import Dataset
from nas_cntk.data.preprocessing import content_keys, to_float
from nas_cntk.errors import DataError, UsageError
from nas_cntk.paper import figures
from nas_cntk.paper.columns import Column, Size
from nas_cntk.paper.wishes import Wishes
from nas_cntk.validate.images import stratified_order

FEWEST_A_CLASS = 2


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Training and test images, standardised with the moments of the whole training set."""

    x: NDArray[np.float32]  # shape: (n, h, w, c)
    y: NDArray[np.int64]  # shape: (n,)
    x_test: NDArray[np.float32]  # shape: (m, h, w, c)
    y_test: NDArray[np.int64]  # shape: (m,)
    num_classes: int


class ImageSource:
    """A dataset at several sizes, each made once.

    CIFAR-10 is taken in its own order, since the paper takes its first 2,000 images; other data may be sorted by
    class, and are taken in an order of which every beginning has the classes in proportion.
    """

    def __init__(self, spec: str, *, download: bool = False) -> None:
        self.raw = data.load(spec, download=download)
        if not len(self.raw.y_test):
            raise DataError(f"{spec!r} has no test images; a table needs some")
        self._prepared: dict[tuple[int, int | None], Dataset] = {}

    @property
    def side(self) -> int:
        """Pixels of the longer side, as stored."""
        return max(self.raw.image_shape[:2])

    @property
    def is_papers(self) -> bool:
        """Whether these are the paper's data, all of them."""
        raw = self.raw
        whole = len(raw.y_train) == figures.TRAIN and len(raw.y_test) == figures.TEST
        return raw.name == "cifar10" and raw.image_shape == (figures.SIDE, figures.SIDE, 3) and whole

    def size(self, column: Column, wishes: Wishes, classes: int | None = None) -> Size:
        """Return on how many images, of how many pixels, a column is computed.

        Raises:
            UsageError: if more pixels are asked for than there are, or too few images.
        """
        if wishes.image_size is not None and wishes.image_size > self.side:
            raise UsageError(f"--image-size {wishes.image_size}: the images have {self.side}; upscaling is refused")
        base = column.paper if wishes.full and column.paper is not None else column.small
        n, m = (int(self._keeps(y, classes).sum()) for y in (self.raw.y_train, self.raw.y_test))
        size = Size(
            min(wishes.image_size or base.side, self.side),
            min(n, wishes.train) if wishes.train is not None else min(base.train, int(n * column.share)),
            min(m, wishes.test if wishes.test is not None and base.test else base.test),
        )
        of = min(self.raw.num_classes, classes or self.raw.num_classes)
        if column.kind != "distance" and size.train < FEWEST_A_CLASS * of:
            raise UsageError(f"{size.train} training images are too few for {of} classes; give more with --train")
        return size

    def shape(self, size: Size) -> tuple[int, int, int]:
        """Return height, width and channels of the images of a size."""
        h, w, c = self.raw.image_shape
        return (size.side, size.side, c) if size.side < self.side else (h, w, c)

    def sample(self, size: Size, classes: int | None = None) -> Sample:
        """Return the first images of a size; with `classes`, those of the first classes alone."""
        found = self._dataset(size.side, classes)
        train = self._order(found.y_train, found.x_train)[: size.train]
        test = self._order(found.y_test, found.x_test)[: size.test]
        return Sample(
            found.x_train[train], found.y_train[train], found.x_test[test], found.y_test[test], found.num_classes
        )

    def _dataset(self, side: int, classes: int | None) -> Dataset:
        if (side, classes) not in self._prepared:
            found = self.raw
            if classes is not None and classes < found.num_classes:
                train, test = self._keeps(found.y_train, classes), self._keeps(found.y_test, classes)
                found = replace(
                    found,
                    x_train=found.x_train[train],
                    y_train=found.y_train[train],
                    x_test=found.x_test[test],
                    y_test=found.y_test[test],
                    classes=found.classes[:classes],
                    keys=None if found.keys is None else found.keys[train],
                )
            if side < self.side:
                smaller = (side, side)
                found = replace(
                    found,
                    x_train=to_float(found.x_train, 1.0, smaller),
                    x_test=to_float(found.x_test, 1.0, smaller),
                )
            self._prepared[side, classes] = data.standardise(found)
        return self._prepared[side, classes]

    @staticmethod
    def _keeps(y: NDArray[np.int64], classes: int | None) -> NDArray[np.bool_]:
        return np.ones(len(y), dtype=bool) if classes is None else y < classes

    def _order(self, y: NDArray[np.int64], x: NDArray[np.float32]) -> NDArray[np.int64]:
        if self.raw.name == "cifar10":
            return np.arange(len(y))
        return stratified_order(y, content_keys(x), 0)
