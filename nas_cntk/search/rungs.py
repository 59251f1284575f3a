"""Rungs: a candidate is judged on a part of the subset first, and dropped where it is clearly behind.

By held-out accuracy it is compared with the best so far, on the same held-out images and on the same part of the
subset, so only the images that one of the two gets right count: the exact test of McNemar, one-sided. By any other
score of the kernel it is compared with all that were scored on the same half of the subset before.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas_cntk.scores import SCORES

LEAST_DIVISOR = 4  # nothing is dropped below this part of the subset
LEAST_KNOWN = 5  # candidates, before one is compared with their quantile
PAIRED = ("holdout_accuracy", "nngp_holdout_accuracy")  # by which candidates can be compared image by image


def applies(names: Sequence[str]) -> bool:
    """Return whether a search by these scores can use rungs: one score, and one of the kernel alone."""
    return len(names) == 1 and bool(SCORES[names[0]].kernels) and not SCORES[names[0]].needs_network


def sizes(name: str, parts: Sequence[int]) -> tuple[int, ...]:
    """Return at which of the growing parts of the subset, the whole one last, a search by a score has its rungs."""
    return tuple(parts[:-1] if name in PAIRED else parts[-2:-1])


def quantile(name: str, others: Sequence[float | None], level: float) -> float | None:
    """Return what a candidate must not be behind, given what others scored; None while that are too few.

    A score that is not defined does not count: it is None where it is recorded.
    """
    finite = [value for value in others if value is not None and np.isfinite(value)]
    if len(finite) < LEAST_KNOWN:
        return None
    return float(np.quantile(finite, level if SCORES[name].direction == "maximize" else 1 - level))


def is_behind(name: str, value: float, bound: float) -> bool:
    """Return whether a value of a score is worse than a bound."""
    return value < bound if SCORES[name].direction == "maximize" else value > bound


def p_value(best: NDArray[np.bool_], candidate: NDArray[np.bool_]) -> float:
    """Return the chance of a difference as large as this, or larger, between two that are equally good.

    Args:
        best, candidate: shape (images,), which of the same held-out images each gets right.

    Source: McNemar (1947), the exact binomial form.
    """
    from scipy.stats import binom

    lost, won = int((best & ~candidate).sum()), int((candidate & ~best).sum())
    return float(binom.sf(lost - 1, lost + won, 0.5))


def paired_reason(size: int, candidate: float, best: float, p: float) -> str:
    """Return why a candidate was dropped; accuracies in [0, 1]."""
    chance = f"p = {p:.1g}" if p >= 1e-4 else "p < 0.0001"
    return f"rung {size}: {100 * candidate:.1f} % against {100 * best:.1f} %, {chance}"


def quantile_reason(size: int, candidate: float, bound: float, level: float) -> str:
    """Return why a candidate was dropped by a score that is not compared image by image."""
    return f"rung {size}: {candidate:.4g}, behind the {level:g} quantile {bound:.4g}"
