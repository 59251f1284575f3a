"""Rank statistics against SciPy and against cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from nas_cntk.benchmark import ranking


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.standard_normal(40)
    x = np.round(y + rng.standard_normal(40), 0)  # with ties
    x[:3] = -np.inf
    return x, y


def test_correlations_are_scipys(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = pair
    assert ranking.spearman(x, y) == pytest.approx(stats.spearmanr(stats.rankdata(x), y)[0])
    assert ranking.kendall(x, y) == pytest.approx(stats.kendalltau(x, y)[0])
    samples = ranking.draws(40, 1, count=20)
    for drawn, rho, tau in zip(samples, ranking.spearmans(x, y, samples), ranking.kendalls(x, y, samples), strict=True):
        assert rho == pytest.approx(stats.spearmanr(stats.rankdata(x[drawn]), y[drawn])[0])
        assert tau == pytest.approx(stats.kendalltau(x[drawn], y[drawn])[0])


def test_the_partial_correlation_is_that_of_residuals(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = pair
    given = np.random.default_rng(2).standard_normal(40) + y
    ranks = [stats.rankdata(values) for values in (x, y, given)]
    left = [values - np.polyval(np.polyfit(ranks[2], values, 1), ranks[2]) for values in ranks[:2]]
    assert ranking.partial(x, y, given) == pytest.approx(stats.pearsonr(*left)[0])
    assert math.isnan(ranking.partial(x, y, x)), "nothing is left when the score itself is given"


def test_constant_scores_and_targets_have_no_correlation() -> None:
    flat, y = np.zeros(6), np.arange(6.0)
    for statistic in (ranking.spearman, ranking.kendall):
        assert math.isnan(statistic(flat, y)) and math.isnan(statistic(y, flat))
    assert math.isnan(ranking.ndcg(y, flat))
    assert ranking.percentiles(ranking.spearmans(flat, y, ranking.draws(6, 0))) is None
    assert ranking.regret(flat, y) == pytest.approx(2.5)  # any of them: 5 - 2.5


def test_the_top_of_a_ranking() -> None:
    y = np.arange(200.0)
    assert ranking.ndcg(y, y) == pytest.approx(1) and ranking.hits(y, y) == 1 and ranking.regret(y, y) == 0
    assert ranking.hits(-y, y) == 0 and ranking.regret(-y, y) == 199 and ranking.ndcg(-y, y) < 0.1
    assert ranking.hits(np.zeros(200), y) == pytest.approx(0.1)  # any twenty of two hundred
    best_two_apart = np.where(y == 199, 1.0, 0.0)  # one of the two best first, the rest level
    assert ranking.hits(best_two_apart, y) == pytest.approx((1 + 19 / 199) / 2)


def test_a_tie_shares_its_gains() -> None:
    y = np.array([0.0] * 19 + [1.0])
    x = np.array([0.0] * 18 + [1.0, 1.0])
    # Two of twenty are the top: the tie holds one gain of 1, shared; ideal is 1 at the first place.
    expected = 0.5 * (1 + 1 / math.log2(3))
    assert ranking.ndcg(x, y) == pytest.approx(expected)


def test_the_interval_covers_what_it_should() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for trial in range(60):
        x = rng.standard_normal(60)
        y = x + rng.standard_normal(60)  # Pearson 0.707, Spearman 0.690
        low, high = ranking.percentiles(ranking.spearmans(x, y, ranking.draws(60, trial, count=200)))
        covered += low < 0.69 < high
    assert covered >= 50


def test_log_rank_sums_count_from_the_worst() -> None:
    a, b = np.array([4.0, 3, 1, 1]), np.array([2.0, 4, -np.inf, 3])
    total = ranking.log_rank_sum(a, b)
    assert total == pytest.approx([math.log(4 * 2), math.log(3 * 4), math.log(1.5 * 1), math.log(1.5 * 3)])
