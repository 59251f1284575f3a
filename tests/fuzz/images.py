"""Small pictures with labels, and what must hold of any dataset that is accepted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas_cntk import data


def pictures(n: int, shape: tuple[int, ...], seed: int = 0) -> NDArray[np.uint8]:
    """Return images of bytes, shape (n, *shape)."""
    return np.random.default_rng(seed).integers(0, 256, (n, *shape)).astype(np.uint8)


def check(loaded: data.Dataset) -> None:
    """What every reader promises of what it accepts."""
    for x, y in ((loaded.x_train, loaded.y_train), (loaded.x_test, loaded.y_test)):
        assert x.dtype == np.float32 and x.ndim == 4 and np.isfinite(x).all()
        assert x.shape[1:] == loaded.image_shape and y.shape == (len(x),)
        assert y.dtype == np.int64 and (not len(y) or (y.min() >= 0 and y.max() < loaded.num_classes))
    assert loaded.num_classes >= 2 and len(loaded.x_train) and len(loaded.fingerprint) == 32
    assert all(isinstance(name, str) for name in loaded.classes)
    assert all(len(note.splitlines()) == 1 for note in loaded.notes)
    standardised = data.standardise(loaded)
    assert np.isfinite(standardised.x_train).all() and np.isfinite(standardised.x_test).all()
