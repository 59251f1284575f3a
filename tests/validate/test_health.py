"""Proxy health: the coefficients, their intervals, and what is said of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from nas_cntk.validate import health as room
from nas_cntk.validate.health import Validated, health


def sample(n: int, noise: float, seed: int = 0, *, flops_rule: bool = False) -> list[Validated]:
    """Architectures whose accuracy follows the proxy (or FLOPs) with noise, with ties."""
    rng = np.random.default_rng(seed)
    flops = rng.integers(1, 1000, n)
    proxy = rng.integers(0, 40, n) / 40
    cause = flops / 1000 if flops_rule else proxy
    accuracy = np.round(0.5 + 0.3 * cause + noise * rng.standard_normal(n), 3)
    return [
        Validated(f"k{i}", float(proxy[i]), float(flops[i]), float(rng.integers(1, 99)), float(accuracy[i]), 0.005)
        for i in range(n)
    ]


@pytest.mark.parametrize("n, noise", [(12, 0.0), (12, 0.1), (30, 0.3)])
def test_the_coefficients_are_scipys(n: int, noise: float) -> None:
    points = sample(n, noise)
    found = health("CNN", points)
    accuracy = [p.accuracy for p in points]
    for line, values in zip(
        found.lines, zip(*[(p.proxy, p.flops, p.params) for p in points], strict=True), strict=True
    ):
        assert line.spearman.value == pytest.approx(stats.spearmanr(values, accuracy).statistic)
        assert line.kendall.value == pytest.approx(stats.kendalltau(values, accuracy).statistic)
        for one in (line.spearman, line.kendall):
            assert one.low is not None and one.high is not None and one.value is not None
            assert one.low <= one.value + 1e-9 and one.value - 1e-9 <= one.high


def test_the_partial_correlation_is_that_of_residual_ranks() -> None:
    points = sample(40, 0.2)
    ranks = [stats.rankdata(values) for values in zip(*[(p.proxy, p.accuracy, np.log(p.flops)) for p in points],
                                                      strict=True)]  # fmt: skip
    residuals = [ranks[i] - np.polyval(np.polyfit(ranks[2], ranks[i], 1), ranks[2]) for i in range(2)]
    expected = np.corrcoef(residuals)[0, 1]
    found = health("CNN", points).lines
    assert found[0].partial is not None and found[0].partial.value == pytest.approx(expected)
    assert found[1].partial is None


def test_the_interval_covers_as_often_as_it_says() -> None:
    """Rank correlation of independent values is 0: 95 % intervals miss it about once in twenty."""
    rng = np.random.default_rng(0)
    draws = rng.integers(0, 30, (400, 30))
    missed = 0
    for _ in range(100):
        one = room._with_interval(room._spearman, draws, *rng.standard_normal((2, 30)))
        assert one.low is not None and one.high is not None
        missed += not one.low <= 0 <= one.high
    assert 1 <= missed <= 14


def test_verdicts() -> None:
    assert "ranks these architectures well" in health("CNN", sample(20, 0.01)).verdict
    assert "better than counting FLOPs or parameters" in health("CNN", sample(20, 0.01)).verdict
    by_size = health("CNN", sample(20, 0.01, flops_rule=True)).verdict
    assert by_size.endswith(
        "no evidence that the proxy ranks these architectures; counting FLOPs (more is better) does"
    )
    assert health("CNN", sample(20, 9.0)).verdict.endswith("nor that FLOPs or parameters do")
    both = [Validated(p.key, p.proxy, 1 + p.proxy, p.params, p.accuracy, p.stderr) for p in sample(20, 0.01)]
    assert "well, and counting FLOPs (more is better) does as well" in health("CNN", both).verdict
    assert "roughly" in health("CNN", sample(20, 0.15)).verdict
    wrong = [Validated(p.key, -p.proxy, p.flops, p.params, p.accuracy, p.stderr) for p in sample(20, 0.01)]
    assert "the wrong way round" in health("CNN", wrong).verdict
    assert "with 7 validated, fewer than 8, this proves little" in health("CNN", sample(7, 0.01)).verdict
    assert room.FEW == 8


def test_what_cannot_be_ranked() -> None:
    same = [Validated(str(i), 0.5, 10.0 + i, 1.0, 0.9, 0.01) for i in range(10)]
    found = health("CNN", same)
    assert found.lines[0].spearman.value is None and "nothing to rank" in found.verdict
    assert "too easy" in found.notes[0]
    assert not health("CNN", sample(20, 0.1)).notes
    for n in (0, 1, 2):
        few = health("CNN", sample(n, 0.1))
        assert few.lines[0].spearman.value is None and "proves little" in few.verdict
    json.dumps(found.to_dict(), allow_nan=False)


def test_equal_seeds_give_equal_intervals() -> None:
    assert health("CNN", sample(12, 0.1)) == health("CNN", sample(12, 0.1))
