"""benchmarks/equal_budget.py: searches of a made-up pool, with and without a rung."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="module")
def script(repository: Path) -> Any:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("equal_budget", repository / "benchmarks" / "equal_budget.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["equal_budget"] = module
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("equal_budget")


CELLS, TRIALS, SEEDS = 60, 25, 3


@pytest.fixture
def pool() -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    edges = rng.integers(0, 5, (CELLS, 6))
    values = rng.standard_normal(CELLS)
    return edges, values, values + 0.1 * rng.standard_normal(CELLS)


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_search_scores_every_cell_once_and_keeps_the_best(script: Any, pool: Any, sampler: str) -> None:
    edges, values, accuracy = pool
    way = script.Way("w", sampler, values, np.full(CELLS, 2.0), np.full(CELLS, 7.0), TRIALS)
    of = script._searched(way, edges, accuracy, SEEDS)
    assert not of.dropped.any() and all(len(set(row)) == TRIALS for row in of.cells)
    for row, found in zip(of.cells, of.accuracy, strict=True):
        best = [row[: trial + 1][np.argmax(values[row[: trial + 1]])] for trial in range(TRIALS)]
        assert np.array_equal(found, accuracy[best])
    assert np.array_equal(script._spent(way, of, "seconds"), np.tile(2.0 * np.arange(1, TRIALS + 1), (SEEDS, 1)))


def test_what_a_rung_drops_is_never_best_and_costs_the_rung_alone(script: Any, pool: Any) -> None:
    edges, values, accuracy = pool
    few = script.Way("few", "tpe", -values, np.full(CELLS, 1.0), np.full(CELLS, 1.0), TRIALS)  # the other way round
    way = script.Way("w", "tpe", values, np.full(CELLS, 4.0), np.full(CELLS, 4.0), TRIALS, rung=few)
    of = script._searched(way, edges, accuracy, SEEDS)
    assert of.dropped.any() and not of.dropped[:, 0].any() and not of.dropped.all(axis=1).any()
    for row, dropped, found in zip(of.cells, of.dropped, of.accuracy, strict=True):
        for trial in range(1, TRIALS):
            assert dropped[trial] == (-values[row[trial]] < np.median(-values[row[:trial]]))
        assert found[-1] == accuracy[max(row[~dropped], key=lambda cell: values[cell])]
    assert np.array_equal(script._spent(way, of, "seconds")[:, -1], (np.where(of.dropped, 1.0, 4.0)).sum(axis=1))


def test_what_a_score_puts_first_in_random_pools(script: Any) -> None:
    accuracy = np.random.default_rng(1).uniform(10.0, 95.0, 400)
    first, best = script._first_of_pools(accuracy, accuracy)
    assert first == best > np.sort(accuracy)[-5]
    first, best = script._first_of_pools(-accuracy, accuracy)
    assert first < best < np.median(accuracy)
    first, best = script._first_of_pools(np.zeros(400), accuracy)  # equals: a draw, and the best of five draws
    assert abs(first - accuracy.mean()) < 2.5 and abs(best - (10 + 85 * 5 / 6)) < 5
