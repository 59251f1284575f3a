"""Which trials are tied with the best."""

from __future__ import annotations

from nas_cntk.records.trials import Finished, Score, Verdict
from nas_cntk.report.rows import Row, order, row_of
from nas_cntk.report.ties import tied

UP = {"holdout_accuracy": "maximize"}


def row(number: int, value: float, key: str | None = None, subset: int = 100, name: str = "holdout_accuracy") -> Row:
    key = key or f"k{number}"
    score = Score(key, subset, 100, "", {"values": {name: value}}, None)
    return row_of(Finished(number, number, Verdict("COMPLETE", key=key, subset=subset), score, None, None))


def test_within_the_larger_standard_error() -> None:
    # At 0.9 of 100 images the standard error is 0.03, at 0.87 it is 0.0336, at 0.86 it is 0.0347.
    made = order([row(0, 0.9), row(1, 0.87), row(2, 0.86), row(3, 0.85)], UP)
    assert tied(made, UP) == {0, 1}


def test_the_best_alone_is_tied_with_nobody() -> None:
    assert tied(order([row(0, 0.9), row(1, 0.5)], UP), UP) == frozenset()
    assert tied(order([row(0, 0.9), row(1, 0.9, key="k0")], UP), UP) == frozenset(), "its own duplicate"
    assert tied([], UP) == frozenset()


def test_fewer_images_are_another_measurement() -> None:
    assert tied(order([row(0, 0.9), row(1, 0.9, subset=50)], UP), UP) == frozenset()


def test_what_has_no_standard_error_ties_with_its_equals() -> None:
    down = {"params": "minimize"}
    made = order([row(0, 5.0, name="params"), row(1, 5.0, name="params"), row(2, 6.0, name="params")], down)
    assert tied(made, down) == {0, 1}


def test_pruned_trials_are_not_tied() -> None:
    pruned = row_of(Finished(7, 7, Verdict("PRUNED", "cost"), None, None, None))
    assert tied(order([row(0, 0.9), row(1, 0.9), pruned], UP), UP) == {0, 1}
