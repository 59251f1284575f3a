"""A study whose names try to be something else than text."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from page_reader import Element

STUDY = "\"><script>alert('1')</script>&amp;"
CLASSES = ("<script>alert(2)</script>", "\" onload='x", "red\x1b[31m\x07\r\n", "\u202egnp.exe")
SHAPE = (5, 4, 3)
SPACE = """
from nas_cntk import Builder

def propose(trial, image_shape):
    b = Builder()
    x = b.conv(b.input(), trial.suggest_categorical("<b>kernel", [1, 3, 5]))
    if trial.suggest_categorical("residual", [False, True]):
        x = b.add(x, b.conv(b.relu(x), trial.suggest_categorical("inner", [1, 3])), b.avg_pool(x, 3, 1, "same"))
    b.dense(b.global_avg_pool(b.relu(x)) if trial.suggest_categorical("pooled", [False, True]) else b.flatten(x))
    return b.build()
"""

Reported = Callable[..., Element]  # writes a report with these options, and returns its page


def images(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return bytes (n, *SHAPE) and class names (n,), classes told apart by colour, not always rightly."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 4
    x = rng.integers(0, 150, (n, *SHAPE))
    x[np.arange(n), :, :, y % 3] += 30
    return x.astype(np.uint8), np.array(CLASSES)[y]
