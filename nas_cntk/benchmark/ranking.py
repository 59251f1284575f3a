"""How well a score ranks: rank correlations and what is found at the top, with bootstrap intervals.

All functions take arrays of one value a cell, the greater the better; a score that is not defined is -inf, so that it
ranks last.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Values = NDArray[np.float64]  # shape: (cells,)
Draws = NDArray[np.int64]  # shape: (draws, cells): cells drawn with replacement

DRAWS = 1000
LEAST = 5  # cells below which a correlation says nothing


def draws(cells: int, seed: int, count: int = DRAWS) -> Draws:
    """Return bootstrap samples, shape (count, cells)."""
    return np.random.default_rng([seed, 7]).integers(0, cells, (count, cells))


def spearman(x: Values, y: Values) -> float:
    """Return Spearman's rank correlation, ties at their mean rank; NaN if one of both is constant."""
    return float(_pearson(rankdata(x), rankdata(y)))


def kendall(x: Values, y: Values) -> float:
    """Return Kendall's tau-b; NaN if one of both is constant."""
    return float(_tau(_signs(x), _signs(y), np.ones((1, len(x))))[0])


def partial(x: Values, y: Values, given: Values) -> float:
    """Return the partial Spearman correlation of x and y given a third; NaN where it is not defined."""
    return float(_partial(rankdata(x), rankdata(y), rankdata(given)))


def ndcg(x: Values, y: Values) -> float:
    """Return the normalised discounted cumulative gain of the tenth that x puts first.

    The gain of a cell is its target over the range of all targets, in [0, 1]; ties of x share their gains.

    Source: Jarvelin and Kekalainen, "Cumulated gain-based evaluation of IR techniques" (2002).
    """
    low, high = float(y.min()), float(y.max())
    if high == low:
        return math.nan
    gains = (y - low) / (high - low)
    top = max(1, len(x) // 10)
    discounts = 1 / np.log2(np.arange(2, len(x) + 2))
    discounts[top:] = 0
    ideal = float(np.sort(gains)[::-1] @ discounts)
    return float(_shared(x, gains) @ discounts) / ideal


def hits(x: Values, y: Values) -> float:
    """Return the share of the truly best hundredth (one cell at least) that is in the tenth that x puts first."""
    best = np.argsort(-y, kind="stable")[: max(1, len(y) // 100)]
    top = max(1, len(x) // 10)
    # A tie at the edge of the tenth counts as far as there is room for it.
    edge = np.sort(x)[::-1][top - 1]
    above, level = int((x > edge).sum()), int((x == edge).sum())
    chance = np.where(x > edge, 1.0, np.where(x == edge, (top - above) / level, 0.0))
    return float(chance[best].mean())


def regret(x: Values, y: Values) -> float:
    """Return the best target minus that of the cell that x puts first, on average over ties."""
    return float(y.max() - y[x == x.max()].mean())


def interval(
    statistic: Callable[[Values, Values], float], x: Values, y: Values, samples: Draws
) -> tuple[float, float] | None:
    """Return the 95 % bootstrap interval of a statistic; None where it is hardly ever defined."""
    return percentiles(np.array([statistic(x[drawn], y[drawn]) for drawn in samples]))


def spearmans(x: Values, y: Values, samples: Draws) -> Values:
    """Return Spearman's correlation in every bootstrap sample, shape (draws,)."""
    return np.asarray(_pearson(rankdata(x[samples], axis=1), rankdata(y[samples], axis=1)))


def partials(x: Values, y: Values, given: Values, samples: Draws) -> Values:
    """Return the partial correlation in every bootstrap sample, shape (draws,)."""
    return np.asarray(_partial(*(rankdata(values[samples], axis=1) for values in (x, y, given))))


def kendalls(x: Values, y: Values, samples: Draws) -> Values:
    """Return Kendall's tau-b in every bootstrap sample, shape (draws,)."""
    counts = np.stack([np.bincount(drawn, minlength=len(x)) for drawn in samples]).astype(np.float64)
    return _tau(_signs(x), _signs(y), counts)


def percentiles(found: Values) -> tuple[float, float] | None:
    """Return the middle 95 % of bootstrap values; None if fewer than half are defined."""
    defined = found[np.isfinite(found)]
    if 2 * len(defined) < len(found) or not len(defined):
        return None
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(low), float(high)


def log_rank_sum(*scores: Values) -> Values:
    """Return the sum of the logs of the scores' ranks, 1 the worst: a rank combination without weights.

    What one score puts last stays last whatever the others say, which ranks better than the logs of ranks counted from
    the best: the non-linear aggregation of Lee and Ham, "AZ-NAS" (2024), in which high ranks must be consistent.
    """
    return np.asarray(sum(np.log(rankdata(x)) for x in scores), dtype=np.float64)


def _pearson(x: Values, y: Values) -> NDArray[np.float64]:
    x = x - x.mean(axis=-1, keepdims=True)
    y = y - y.mean(axis=-1, keepdims=True)
    scale = np.sqrt((x * x).sum(axis=-1) * (y * y).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, (x * y).sum(axis=-1) / scale, np.nan)


def _partial(x: Values, y: Values, given: Values) -> NDArray[np.float64]:
    xy, xz, yz = _pearson(x, y), _pearson(x, given), _pearson(y, given)
    rest = (1 - xz**2) * (1 - yz**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(rest > 1e-12, (xy - xz * yz) / np.sqrt(rest), np.nan)


def _signs(x: Values) -> NDArray[np.float64]:
    """Return which of two cells is better, -1, 0 or 1, shape (cells, cells)."""
    ranks = rankdata(x)
    return np.asarray(np.sign(ranks[:, None] - ranks[None, :]))


def _tau(x: NDArray[np.float64], y: NDArray[np.float64], counts: NDArray[np.float64]) -> Values:
    """Return tau-b for signs of pairs and how often each cell counts, shape (draws, cells)."""
    both, first, second = (((counts @ pairs) * counts).sum(axis=1) for pairs in (x * y, x * x, y * y))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(first * second > 0, both / np.sqrt(first * second), np.nan)


def _shared(x: Values, gains: Values) -> Values:
    """Return gains in the order of x, best first, each tie's as their mean."""
    _, groups = np.unique(-x, return_inverse=True)
    means = np.bincount(groups, weights=gains) / np.bincount(groups)
    return np.asarray(means[np.sort(groups)])
