"""Rows: their order, the distinct ones, the Pareto front."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest

from nas_cntk.records.trials import Finished, Score, Verdict
from nas_cntk.report.rows import Row, distinct, order, pareto, row_of

DESIGNED = (
    "trial key state proxy_accuracy proxy_stderr subset params flops seconds"
    " cnn_accuracy cnn_recipe full_kernel_accuracy"
).split()


def row(number: int, accuracy: float | None, flops: float = 0.0, *, key: str | None = None, subset: int = 100) -> Row:
    if accuracy is None:
        return row_of(Finished(number, number, Verdict("PRUNED", "cost: 1", key), None, None, None))
    values = {"holdout_accuracy": accuracy, "flops": flops}
    result: dict[str, object] = {"values": values, "proxy_accuracy": accuracy}
    score = Score(key or f"k{number}", subset, 50, "holdout_accuracy", result, None)
    verdict = Verdict("COMPLETE", key=score.key, subset=subset, seconds=1.0)
    return row_of(Finished(number, number, verdict, score, None, None))


def test_rows_have_what_other_programs_rely_on() -> None:
    for made in (row(0, 0.75), row(1, None)):
        document = json.loads(json.dumps(made.to_dict()))
        assert set(DESIGNED) <= set(document)
    complete = row(0, 0.75)
    assert complete.proxy_accuracy == 0.75
    assert complete.proxy_stderr == pytest.approx((0.75 * 0.25 / 50) ** 0.5)
    assert complete.cnn_accuracy is None and complete.full_kernel_accuracy is None
    pruned = row(1, None)
    assert pruned.proxy_accuracy is None and pruned.proxy_stderr is None and pruned.scores == {}


def test_the_full_subset_comes_first_then_the_best_then_the_pruned() -> None:
    rows = [row(0, 0.9, subset=50), row(1, None), row(2, 0.5), row(3, 0.7), row(4, None), row(5, 0.7)]
    assert [r.trial for r in order(rows, {"holdout_accuracy": "maximize"})] == [3, 5, 2, 0, 1, 4]
    assert [r.trial for r in order(rows, {"holdout_accuracy": "minimize"})] == [2, 3, 5, 0, 1, 4]


def test_distinct_keeps_the_first_of_every_key() -> None:
    rows = [row(0, 0.9, key="a"), row(1, 0.9, key="b"), row(2, 0.9, key="a"), row(3, None), row(4, None)]
    assert [r.trial for r in distinct(rows)] == [0, 1, 3, 4]


@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_what_comparing_every_pair_gives(seed: int) -> None:
    rng = random.Random(seed)
    rows = [row(n, rng.randrange(8) / 8, float(rng.randrange(8))) for n in range(40)] + [row(99, None)]
    found = pareto(rows, {"holdout_accuracy": "maximize", "flops": "minimize"})
    complete = rows[:-1]

    def betters(a: Any, b: Any) -> bool:
        pa, pb = a.scores, b.scores
        no_worse = pa["holdout_accuracy"] >= pb["holdout_accuracy"] and pa["flops"] <= pb["flops"]
        return no_worse and pa != pb

    beaten = {b.trial for a, b in itertools.permutations(complete, 2) if betters(a, b)}
    assert [r.trial for r in found] == [r.trial for r in complete if r.trial not in beaten]


def test_the_front_of_one_score_is_its_best() -> None:
    rows = [row(0, 0.5), row(1, 0.9), row(2, 0.9), row(3, 0.95, subset=50)]
    assert [r.trial for r in pareto(rows, {"holdout_accuracy": "maximize"})] == [1, 2]
