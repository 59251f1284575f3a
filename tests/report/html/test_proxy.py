"""The proxy against validated accuracy: figures of the health report, marks with their bars."""

from __future__ import annotations

import pytest

from nas_cntk.records.trials import Finished, Score, Verdict
from nas_cntk.records.validations import Validation
from nas_cntk.report.html.proxy import trusted
from nas_cntk.report.rows import Row, row_of
from nas_cntk.report.trust import trust

UP = {"holdout_accuracy": "maximize"}


def study(proxies: list[float], accuracies: list[float]) -> tuple[list[Row], list[Validation]]:
    rows, validated = [], []
    for n, (proxy, accuracy) in enumerate(zip(proxies, accuracies, strict=True)):
        score = Score(f"k{n}", 100, 100, "", {"values": {"holdout_accuracy": proxy}}, None)
        verdict = Verdict("COMPLETE", key=f"k{n}", subset=100, params=100 + n, flops=1000 - n)
        rows.append(row_of(Finished(n, n, verdict, score, None, None)))
        validated.append(Validation(1, f"k{n}", n, "cnn", "standard", accuracy, 0.01, 100, 100, 1.0))
    return rows, validated


def test_correlations_and_intervals_are_those_of_the_health() -> None:
    proxies = [0.80, 0.82, 0.84, 0.85, 0.86, 0.88, 0.90, 0.91, 0.93]
    rows, validated = study(proxies, [0.70, 0.74, 0.72, 0.75, 0.78, 0.77, 0.80, 0.83, 0.82])
    (health,) = trust(rows, UP, validated)
    (found,) = trusted(rows, UP, validated)
    proxy = health.lines[0].spearman
    assert proxy.value is not None and proxy.low is not None and proxy.high is not None
    assert found.lines[0].predictor == "held-out accuracy"
    assert found.lines[0].spearman == f"{proxy.value:.2f} [{proxy.low:.2f}, {proxy.high:.2f}]"
    assert (found.verdict, found.notes, found.architectures) == (health.verdict, health.notes, 9)
    marks = found.plot.marks
    assert [mark.x for mark in marks] == sorted(mark.x for mark in marks) and len(found.plot.lines) == 18
    by_accuracy = sorted(range(9), key=lambda n: validated[n].accuracy or 0.0)
    assert by_accuracy == sorted(range(9), key=lambda n: -marks[n].y), "better is higher"


@pytest.mark.parametrize("far, shape", [(0.05, "left"), (0.85, "dot")])
def test_an_outlier_leaves_room_for_the_others(far: float, shape: str) -> None:
    rows, validated = study([0.90 + n / 200 for n in range(11)] + [far], [0.8 + n / 100 for n in range(12)])
    (found,) = trusted(rows, UP, validated)
    assert [mark.shape for mark in found.plot.marks] == ["dot"] * 11 + [shape]
    bars = [float(place.split(",")[0]) for line in found.plot.lines[:22] for place in line.points.split()]
    assert found.plot.left < min(bars) and max(bars) < found.plot.right, "bars end within the plot"
    spread = max(mark.x for mark in found.plot.marks[:11]) - min(mark.x for mark in found.plot.marks[:11])
    assert spread > (0.3 if shape == "left" else 0.2) * found.plot.width


def test_two_are_too_few_to_correlate_and_none_to_show() -> None:
    rows, validated = study([0.9, 0.8], [0.7, 0.6])
    (found,) = trusted(rows, UP, validated)
    assert found.lines == () and "this proves little" in found.verdict and len(found.plot.marks) == 2
    assert trusted(rows, UP, []) == []
