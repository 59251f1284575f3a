"""The images of a validation: an order of the training set, the part that chooses, and the test set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nas_cntk.data import Dataset
from nas_cntk.data.preprocessing import content_keys
from nas_cntk.errors import StudyError, UsageError
from nas_cntk.search.settings import absolute_data
from nas_cntk.validate.artifacts import Preprocessing

if TYPE_CHECKING:
    from nas_cntk.records.studies import Study

SPLIT_FRACTION = 0.1  # of the training images: chooses epoch, learning rate, width and kappa
FEWEST_A_CLASS = 2

Images = NDArray[np.float32]  # shape: (n, h, w, c)
Labels = NDArray[np.int64]  # shape: (n,)


@dataclass(frozen=True, slots=True, eq=False)
class ValidationImages:
    """A dataset, standardised, with the orders in which its images are taken.

    The first n of `train_order` are the training images of a validation of n: classes in the proportions of the
    whole set, and nested, so that a Gram matrix of fewer is the beginning of that of more.
    """

    dataset: Dataset  # standardised
    preprocessing: Preprocessing
    train_order: NDArray[np.int64]
    test_order: NDArray[np.int64]

    def fewest(self) -> int:
        """Return the smallest number of training images that is taken."""
        return min(len(self.train_order), FEWEST_A_CLASS * self.dataset.num_classes)

    def train(self, n: int) -> tuple[Images, Labels]:
        """Return the first n training images and their labels.

        Raises:
            UsageError: if n is too small for the classes.
        """
        if n < self.fewest():
            raise UsageError(
                f"{n} training images are too few for {self.dataset.num_classes} classes;"
                f" --train-images must be at least {self.fewest()}"
            )
        chosen = self.train_order[:n]
        return self.dataset.x_train[chosen], self.dataset.y_train[chosen]

    def test(self, m: int | None = None) -> tuple[Images, Labels]:
        """Return the first m test images, all by default, and their labels."""
        chosen = self.test_order[:m]
        return self.dataset.x_test[chosen], self.dataset.y_test[chosen]


def study_dataset(study: Study, moved: str | None) -> Dataset:
    """Return the data that a study searched on, not standardised; `moved` says where they are now.

    Raises:
        StudyError: if they are not what the study searched on.
        DataError: if they cannot be read.
    """
    from nas_cntk.data import load

    config = study.config
    size = config.get("image_size")
    dataset = load(
        absolute_data(moved) if moved is not None else str(config["data"]),
        image_size=size if isinstance(size, int) else None,
        download=bool(config.get("download", False)),
        skip_bad=bool(config.get("skip_bad", False)),
    )
    stored = study.identity.get("data")
    if dataset.fingerprint != stored:
        raise StudyError(
            f"the data of study {study.name!r} changed (fingerprint {stored}, now {dataset.fingerprint});"
            " --data names where they are now"
        )
    return dataset


def validation_images(dataset: Dataset, preprocessing: Preprocessing, seed: int) -> ValidationImages:
    """Return the images of a validation, in orders that depend on content and seed, not on how they are stored."""
    keys = content_keys(dataset.x_train) if dataset.keys is None else dataset.keys
    return ValidationImages(
        dataset,
        preprocessing,
        stratified_order(dataset.y_train, keys, seed),
        stratified_order(dataset.y_test, content_keys(dataset.x_test), seed),
    )


def stratified_order(y: Labels, keys: NDArray[np.uint64], seed: int) -> NDArray[np.int64]:
    """Return an order of the images of which every beginning has the classes in proportion.

    Image k of N in its class, after a seeded shuffle, is at the place (k + 1/2) / N of the whole.
    """
    members, places = [], []
    for label in np.unique(y):
        of_class = np.flatnonzero(y == label)
        of_class = of_class[np.argsort(keys[of_class], kind="stable")]
        members.append(np.random.default_rng([seed, int(label), 3]).permutation(of_class))
        places.append((np.arange(len(of_class)) + 0.5) / len(of_class))
    order: NDArray[np.int64] = np.concatenate(members)[np.argsort(np.concatenate(places), kind="stable")]
    return order


def chooser(y: Labels) -> NDArray[np.bool_]:
    """Return which training images are set aside to choose by: a tenth of every class, one at least of two or more."""
    aside = np.zeros(len(y), dtype=bool)
    for label in np.unique(y):
        of_class = np.flatnonzero(y == label)
        if len(of_class) > 1:
            aside[of_class[-max(1, round(SPLIT_FRACTION * len(of_class))) :]] = True
    return aside
