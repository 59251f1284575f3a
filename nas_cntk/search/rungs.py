"""Rungs: a candidate is judged on a part of the subset first, and dropped where the best so far is clearly better.

Both are compared on the same held-out images and on the same part of the subset, so only the images that one of the
two gets right count: the exact test of McNemar, one-sided.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LEAST_DIVISOR = 4  # nothing is dropped below this part of the subset
SCORES = ("holdout_accuracy", "nngp_holdout_accuracy")  # by which candidates can be compared image by image


def applies(names: Sequence[str]) -> bool:
    """Return whether a search by these scores can use rungs: one score, and a held-out accuracy."""
    return len(names) == 1 and names[0] in SCORES


def p_value(best: NDArray[np.bool_], candidate: NDArray[np.bool_]) -> float:
    """Return the chance of a difference as large as this, or larger, between two that are equally good.

    Args:
        best, candidate: shape (images,), which of the same held-out images each gets right.

    Source: McNemar (1947), the exact binomial form.
    """
    from scipy.stats import binom

    lost, won = int((best & ~candidate).sum()), int((candidate & ~best).sum())
    return float(binom.sf(lost - 1, lost + won, 0.5))


def reason(size: int, candidate: float, best: float, p: float) -> str:
    """Return why a candidate was dropped; accuracies in [0, 1]."""
    chance = f"p = {p:.1g}" if p >= 1e-4 else "p < 0.0001"
    return f"rung {size}: {100 * candidate:.1f} % against {100 * best:.1f} %, {chance}"
