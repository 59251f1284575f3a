"""digits: 1,797 real handwritten digits of 8 x 8 pixels that come with scikit-learn."""

from __future__ import annotations

import numpy as np

from nas_cntk.data.dataset import Raw
from nas_cntk.data.sources import Source

TEST_IMAGES = 397
GREATEST_PIXEL = 16


def read(source: Source) -> Raw:
    """The digits, with the split into 1,400 training and 397 test images that is ours for ever."""
    del source  # nothing is read from a path
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    x = bunch.images.astype(np.uint8)[..., None]  # whole numbers 0..16
    x_train, x_test, y_train, y_test = train_test_split(
        x, bunch.target, test_size=TEST_IMAGES, stratify=bunch.target, random_state=0
    )
    return Raw("digits", x_train, y_train, float(GREATEST_PIXEL), x_test, y_test)
