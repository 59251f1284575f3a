"""Importance of parameters: what decides comes first, and too little is said to be too little."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution, distribution_to_json

from nas_cntk.records.trials import Finished, Score, Suggestion, Verdict
from nas_cntk.report.html.importance import Importance, importance
from nas_cntk.report.rows import row_of

CHOICES = distribution_to_json(CategoricalDistribution(["a", "b", "c"]))
DEPTH = distribution_to_json(IntDistribution(1, 5))


def study(count: int, score: Callable[[int, float, float | None], float], direction: str = "maximize") -> Importance:
    """Return the importance in a study of a choice `kind`, `depth` 1 to 5 and, of kind c alone, a choice `extra`."""
    rng = random.Random(0)
    rows, suggested = [], {}
    for n in range(count):
        kind, depth = rng.randrange(3), float(rng.randint(1, 5))
        extra = float(rng.randrange(3)) if kind == 2 else None
        values = {"holdout_accuracy": score(kind, depth, extra)}
        verdict = Verdict("COMPLETE", key=str(n), subset=60)
        rows.append(row_of(Finished(n, n, verdict, Score(str(n), 60, 60, "", {"values": values}, None), None, None)))
        suggested[n] = [Suggestion("kind", kind, CHOICES), Suggestion("depth", depth, DEPTH)]
        suggested[n] += [] if extra is None else [Suggestion("extra", extra, CHOICES)]
    return importance(rows, {"holdout_accuracy": direction}, suggested)


@pytest.mark.parametrize("direction, sign", [("maximize", 1.0), ("minimize", -1.0)])
def test_what_decides_comes_first(direction: str, sign: float) -> None:
    # The best are those of depth 5, the worst those of the last kind: the way that is better matters.
    found = study(120, lambda kind, depth, extra: sign * (9.0 if depth == 5 else -kind), direction)
    assert found.shares[0].parameter == "depth" and found.shares[0].value > 0.6
    assert sum(one.value for one in found.shares) == pytest.approx(1.0)
    assert [one.value for one in found.shares] == sorted((one.value for one in found.shares), reverse=True)
    low, high = found.shares[0].low, found.shares[0].high
    assert low is not None and high is not None and 0.5 < low <= high <= 1.0
    assert found.trials == 120 and not found.notes


def test_a_parameter_that_only_some_trials_have_is_judged_too() -> None:
    found = study(200, lambda kind, depth, extra: (extra or 0.0) + 0.001 * depth)
    shares = {one.parameter: one.value for one in found.shares}
    assert set(shares) == {"kind", "depth", "extra"} and shares["extra"] > shares["depth"]


def test_few_trials_are_said_to_be_few() -> None:
    assert study(9, lambda kind, depth, extra: depth).shares == ()
    assert "fewer than 10" in study(9, lambda kind, depth, extra: depth).notes[0]
    found = study(12, lambda kind, depth, extra: depth)
    assert found.shares and "take the order as a guess" in found.notes[0]


def test_equal_scores_tell_nothing() -> None:
    found = study(30, lambda kind, depth, extra: 0.5)
    assert found.shares == () and "no parameter made a difference" in found.notes[0]


def test_the_same_trials_say_the_same() -> None:
    assert study(40, lambda kind, depth, extra: depth) == study(40, lambda kind, depth, extra: depth)
