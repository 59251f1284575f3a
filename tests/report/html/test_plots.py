"""Scales and plots: ticks at round values, marks where the figures are."""

from __future__ import annotations

import pytest

from nas_cntk.records.trials import Finished, Score, Verdict
from nas_cntk.report.html.cost import cost
from nas_cntk.report.html.front import front
from nas_cntk.report.html.history import history
from nas_cntk.report.html.plot import MOST, X, Y
from nas_cntk.report.html.scale import Scale, linear, logarithmic, upper
from nas_cntk.report.rows import Row, row_of


def rows(values: list[float | None], seconds: float = 2.0) -> list[Row]:
    """Return a trial for every value of the score; None is pruned."""
    found = []
    for n, value in enumerate(values):
        if value is None:
            found.append(row_of(Finished(n, n, Verdict("PRUNED", "cost: too dear"), None, None, None)))
            continue
        result = {"values": {"holdout_accuracy": value, "flops": 10.0 ** (n % 5 + 3)}}
        verdict = Verdict("COMPLETE", key=f"k{n}", subset=100, seconds=seconds, predicted_seconds=1.0)
        found.append(row_of(Finished(n, n, verdict, Score(f"k{n}", 100, 100, "", result, None), None, None)))
    return found


@pytest.mark.parametrize("low, high", [(0.0, 1.0), (0.97, 0.985), (-3e5, 17.0), (1e-9, 3e-9), (41.0, 41.5)])
def test_linear_ticks_are_few_round_and_inside(low: float, high: float) -> None:
    scale = linear([low, high], *X)
    ticks = scale.ticks(lambda value: f"{value:.12g}")
    assert 2 <= len(ticks) <= 7
    assert all(X[0] <= tick.at <= X[1] for tick in ticks)
    assert [tick.at for tick in ticks] == sorted(tick.at for tick in ticks)
    assert all(len(tick.label.replace("-", "")) <= 7 for tick in ticks), "round"


@pytest.mark.parametrize("low, high", [(700.0, 2.6e7), (1.0, 1.3), (1e-3, 1e9), (5.0, 5.0)])
def test_logarithmic_ticks_are_few_and_inside(low: float, high: float) -> None:
    scale = logarithmic([low, high], *X)
    ticks = scale.ticks(lambda value: f"{value:g}")
    assert len(ticks) <= 7 and all(X[0] <= tick.at <= X[1] for tick in ticks)
    assert scale.at(low) < scale.at(high) or low == high


def test_equal_values_lie_in_the_middle() -> None:
    for value in (0.0, 0.5, -7.0):
        assert linear([value, value], 0, 100).at(value) == 50


def test_a_scale_ends_at_its_ends() -> None:
    scale = Scale(1.0, 2.0, 100.0, 0.0)
    assert [scale.at(value) for value in (0.0, 1.0, 1.25, 2.0, 9.0)] == [100, 100, 75, 0, 0]


def test_the_worst_are_left_out_only_where_they_squeeze() -> None:
    values = [0.9 + n / 1000 for n in range(20)]
    assert upper([*values, 0.1], True, *Y).low > 0.8
    assert upper([*values, 0.88], True, *Y).low < 0.88
    assert upper([*values, 9.0], False, *Y).high < 1.0


def test_the_history_has_a_mark_a_trial_and_steps_at_the_best() -> None:
    found = history(rows([0.5, None, 0.7, 0.6, 0.9]), {"holdout_accuracy": "maximize"})
    assert found is not None
    assert [mark.shape for mark in found.marks] == ["diamond", "cross", "diamond", "dot", "diamond"]
    y = [mark.y for mark in found.marks]
    assert y[4] < y[2] < y[3] < y[0] < y[1] == Y[0], "better is higher, pruned ones lie on the axis"
    assert (
        "4 trials with a score and 1 without" in found.description
        and "trial 4, after 2 improvements" in found.description
    )
    (best,) = found.lines
    assert best.points.split()[-1] == f"{found.marks[4].x:g},{found.marks[4].y:g}"
    (band,) = found.bands
    assert band.y < found.marks[4].y < band.y + band.height
    turned = history(rows([0.5, 0.7, 0.4]), {"holdout_accuracy": "minimize"})
    assert turned is not None and [mark.shape for mark in turned.marks] == ["diamond", "dot", "diamond"]
    assert history(rows([None]), {"holdout_accuracy": "maximize"}) is None


def test_a_long_history_is_thinned_and_keeps_the_best() -> None:
    values: list[float | None] = [0.1 + 0.001 * (n % 7) for n in range(2 * MOST + 1)]
    values[4001] = 0.99
    found = history(rows(values), {"holdout_accuracy": "maximize"})
    assert found is not None and len(found.marks) < 1.1 * MOST
    assert "trial 4001: 99.00 %" in {mark.title for mark in found.marks}


def test_the_front_marks_what_no_other_betters() -> None:
    found = front(rows([0.5, 0.5, 0.8, 0.7, 0.9]), {"holdout_accuracy": "maximize"})
    assert found is not None and found.plot is not None
    assert found.names == ("holdout_accuracy", "flops")
    assert [row.trial for row in found.rows] == [4, 2, 0]
    shapes = {mark.title.split(":")[0]: mark.shape for mark in found.plot.marks}
    assert shapes == {
        "trial 0": "diamond",
        "trial 1": "dot",
        "trial 2": "diamond",
        "trial 3": "dot",
        "trial 4": "diamond",
    }


def test_the_edge_of_the_front_is_a_staircase_below_no_point_of_it() -> None:
    found = front(rows([0.5, 0.7, 0.9]), {"holdout_accuracy": "maximize"})
    assert found is not None and found.plot is not None
    (edge,) = found.plot.lines
    points = [tuple(map(float, point.split(","))) for point in edge.points.split()]
    assert len(points) == 5 and len(set(points)) == 5
    for (x1, y1), (x2, y2) in zip(points, points[1:], strict=False):
        assert (x1 == x2) != (y1 == y2), "level or upright"
    assert points[1] == (points[2][0], points[0][1]), "dearer first, then better"


def test_the_cost_adds_up() -> None:
    trials = rows([0.5, 0.6, None])
    beside = [Score(key, 70, 70, "holdout_accuracy", {"seconds": 2.5}, None) for key in ("a", "b", str(trials[0].key))]
    found = cost(trials, beside, [], 1e9)
    facts = dict(found.facts)
    assert facts["scored beside them"] == "5.0 s for 2 networks of the same passes that are no trials"
    assert facts["search, all trials"] == "4.0 s for 2 trials that were measured"
    assert facts["taken over predicted"] == "2.00 (median of 2)"
    assert found.plot is not None and "2 of 2 trials took between half and twice" in found.plot.description
    assert cost(rows([None]), [], [], None).facts == ()
