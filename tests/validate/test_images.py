"""Which images are trained on, chosen by and tested on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nas_cntk import data
from nas_cntk.errors import UsageError
from nas_cntk.validate.artifacts import preprocessing
from nas_cntk.validate.images import chooser, stratified_order, validation_images


def test_every_beginning_of_the_order_has_the_classes_in_proportion() -> None:
    rng = np.random.default_rng(0)
    y = rng.choice(4, 1000, p=[0.6, 0.3, 0.08, 0.02])
    order = stratified_order(y, rng.integers(0, 2**60, 1000).astype(np.uint64), 7)
    assert sorted(order) == list(range(1000))
    share = np.bincount(y) / 1000
    for n in (50, 100, 333, 900):
        assert np.abs(np.bincount(y[order[:n]], minlength=4) - n * share).max() <= 1.01


def test_the_order_follows_content_not_storage() -> None:
    digits = data.standardise(data.load("digits"))
    prepared = preprocessing(data.load("digits"))
    images = validation_images(digits, prepared, 3)
    shuffle = np.random.default_rng(1).permutation(len(digits.y_train))
    assert digits.keys is not None
    other = replace(digits, x_train=digits.x_train[shuffle], y_train=digits.y_train[shuffle], keys=digits.keys[shuffle])
    again = validation_images(other, prepared, 3)
    for n in (100, 1400):
        assert np.array_equal(images.train(n)[0], again.train(n)[0])
        assert np.array_equal(images.train(n)[1], again.train(n)[1])
    assert not np.array_equal(images.train(100)[1], validation_images(digits, prepared, 4).train(100)[1]) or (
        not np.array_equal(images.train(100)[0], validation_images(digits, prepared, 4).train(100)[0])
    )
    assert len(images.test()[1]) == 397 and len(images.test(30)[1]) == 30


def test_too_few_images() -> None:
    digits = data.standardise(data.load("digits"))
    images = validation_images(digits, preprocessing(data.load("digits")), 0)
    with pytest.raises(UsageError, match="5 training images are too few for 10 classes.*at least 20"):
        images.train(5)


def test_a_tenth_of_every_class_chooses() -> None:
    y = np.repeat([0, 1, 2, 3], [100, 20, 2, 1])
    aside = chooser(y)
    assert [int(aside[y == label].sum()) for label in range(4)] == [10, 2, 1, 0]


def test_preprocessing_is_what_standardising_does() -> None:
    raw = data.load("digits")
    prepared = preprocessing(raw)
    by_hand = (raw.x_test - np.array(prepared.mean)) / np.array(prepared.deviation)
    np.testing.assert_allclose(by_hand, data.standardise(raw).x_test, rtol=1e-5, atol=1e-5)
