"""Proxy health: how far a score that cost seconds can be trusted to rank networks that take hours.

Rank correlations of the proxy score, of FLOPs and of the parameter count with validated accuracies, with bootstrap
intervals over architectures; and what is left of the proxy's once log FLOPs are known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

FEW = 8  # validated architectures below which a correlation proves little
RESAMPLES = 2000
LEVEL = 0.95
_CELLS = 2_000_000  # of pairs of one resample worked on at a time


@dataclass(frozen=True, slots=True)
class Validated:
    """What is known of one validated architecture."""

    key: str
    proxy: float  # the study's first score, turned so that more is better
    flops: float
    params: float
    accuracy: float
    stderr: float


@dataclass(frozen=True, slots=True)
class Correlation:
    """A coefficient with its bootstrap interval; None where it is undefined (all values equal).

    Of fewer than `FEW` architectures there is no interval: resamples of a handful know nothing of those not drawn.
    """

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Line:
    """One predictor of the validated accuracy."""

    predictor: str  # proxy | flops | params
    spearman: Correlation
    kendall: Correlation  # tau-b
    partial: Correlation | None  # Spearman's, given log FLOPs; None for FLOPs themselves


@dataclass(frozen=True, slots=True)
class Health:
    """How well predictors rank the architectures by one kind of validated accuracy."""

    target: str  # "cnn, standard", "cnn, paper" or "full kernel"
    architectures: int
    lines: tuple[Line, ...]
    verdict: str  # one sentence
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """Return it for JSON."""
        return asdict(self)


def health(target: str, validated: Sequence[Validated], seed: int = 0) -> Health:
    """Return the health of the proxy against one kind of validated accuracy."""
    n = len(validated)
    accuracy = np.array([one.accuracy for one in validated])
    values = {
        "proxy": np.array([one.proxy for one in validated]),
        "flops": np.array([one.flops for one in validated]),
        "params": np.array([one.params for one in validated]),
    }
    draws = np.random.default_rng([seed, n]).integers(0, max(1, n), (RESAMPLES, n))
    lines = []
    for name, x in values.items():
        given = values["flops"]  # ranks of log FLOPs are those of FLOPs
        partial = None
        if name != "flops":
            partial = _with_interval(_partial, draws, x, accuracy, given)
        lines.append(
            Line(
                name,
                _with_interval(_spearman, draws, x, accuracy),
                _with_interval(_kendall, draws, x, accuracy),
                partial,
            )
        )
    return Health(target, n, tuple(lines), _verdict(n, lines), tuple(_notes(validated)))


def _verdict(n: int, lines: Sequence[Line]) -> str:
    proxy = lines[0].spearman
    if n < FEW:
        return f"with {n} validated, fewer than {FEW}, this proves little; validate --spread 12 would say more"
    if proxy.value is None or proxy.low is None or proxy.high is None:
        return "all values are equal: there is nothing to rank by"
    rival = max(lines[1:], key=lambda line: abs(line.spearman.value or 0.0))
    size, better = ("FLOPs" if rival.predictor == "flops" else "parameters"), (rival.spearman.value or 0.0)
    counting = f"counting {size} ({'more' if better > 0 else 'fewer'} is better)"
    if proxy.low <= 0 <= proxy.high:
        words = "there is no evidence that the proxy ranks these architectures"
        low, high = rival.spearman.low, rival.spearman.high
        known = low is not None and high is not None and low * high > 0
        return f"{words}; {counting} does" if known else f"{words}, nor that FLOPs or parameters do"
    if proxy.high < 0:
        return "the proxy ranks these architectures the wrong way round"
    words = "the proxy ranks these architectures well"
    if proxy.low <= 0.5:
        words = "the proxy tells better from worse, roughly"
    if abs(better) < proxy.value:
        return f"{words}, better than counting FLOPs or parameters does"
    return f"{words}, and {counting} does as well"


def _notes(validated: Sequence[Validated]) -> list[str]:
    if len(validated) < 2:
        return []
    found = float(np.std([one.accuracy for one in validated], ddof=1))
    noise = math.sqrt(float(np.mean([one.stderr**2 for one in validated])))
    if found < 1.5 * noise:
        return [
            f"the accuracies differ by {100 * found:.2f} points (deviation), their standard error is"
            f" {100 * noise:.2f}: the test set is too small, or the task too easy, to rank by"
        ]
    return []


def _with_interval(statistic: Any, draws: NDArray[np.int64], *arrays: Float) -> Correlation:
    """Return a statistic of whole arrays and the percentile interval over resampled architectures."""
    n = draws.shape[1]
    if n < 3:
        return Correlation(None, None, None)
    value = float(statistic(*(array[None, :] for array in arrays))[0])
    if not math.isfinite(value):
        return Correlation(None, None, None)
    if n < FEW:
        return Correlation(value, None, None)
    step = max(1, _CELLS // (n * n))
    parts = [
        statistic(*(array[draws[first : first + step]] for array in arrays)) for first in range(0, len(draws), step)
    ]
    samples = np.concatenate(parts)
    samples = samples[np.isfinite(samples)]  # a resample of equal values has no rank correlation
    if len(samples) < RESAMPLES // 10:
        return Correlation(value, None, None)
    low, high = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Correlation(value, float(low), float(high))


def _spearman(x: Float, y: Float) -> Float:
    """Return Spearman's rho of each row, nan where a row is constant."""
    return _pearson(_ranks(x), _ranks(y))


def _partial(x: Float, y: Float, given: Float) -> Float:
    """Return the partial rank correlation of x and y given z, of each row."""
    xy, xz, yz = _spearman(x, y), _spearman(x, given), _spearman(y, given)
    with np.errstate(invalid="ignore", divide="ignore"):
        left = (1 - xz**2) * (1 - yz**2)
        # Where z fixes x or y nothing is left to correlate.
        partial: Float = np.where(left > 1e-12, (xy - xz * yz) / np.sqrt(np.maximum(left, 0)), np.nan)
    return np.clip(partial, -1, 1)


def _kendall(x: Float, y: Float) -> Float:
    """Return Kendall's tau-b of each row, nan where a row is constant."""
    dx = np.sign(x[:, :, None] - x[:, None, :])
    dy = np.sign(y[:, :, None] - y[:, None, :])
    with np.errstate(invalid="ignore", divide="ignore"):
        tau: Float = (dx * dy).sum((1, 2)) / np.sqrt((dx**2).sum((1, 2)) * (dy**2).sum((1, 2)))
    return tau


def _ranks(x: Float) -> Float:
    from scipy.stats import rankdata

    ranks: Float = rankdata(x, axis=1)  # equal values share the mean of their ranks
    return ranks


def _pearson(x: Float, y: Float) -> Float:
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        r: Float = (x * y).sum(axis=1) / np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    return r
