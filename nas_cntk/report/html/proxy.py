"""The proxy against validated accuracy: one plot and one table for each kind of validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas_cntk.data.sources import counted
from nas_cntk.records.validations import Validation
from nas_cntk.report.html import words
from nas_cntk.report.html.plot import Key, Line, Mark, Plot, X, Y, error_bars
from nas_cntk.report.html.scale import linear, upper
from nas_cntk.report.rows import Directions, Row
from nas_cntk.report.ties import error_of
from nas_cntk.report.trust import TARGETS, target_name, trust
from nas_cntk.validate.health import Correlation


@dataclass(frozen=True, slots=True)
class HealthLine:
    """A predictor's rank correlations with validated accuracy, with their intervals, as text."""

    predictor: str
    spearman: str
    kendall: str
    partial: str


@dataclass(frozen=True, slots=True)
class Trusted:
    """How one kind of validation agrees with the proxy."""

    target: str
    architectures: int
    verdict: str
    notes: tuple[str, ...]
    lines: tuple[HealthLine, ...]  # none where there are too few to correlate
    plot: Plot


def trusted(rows: Sequence[Row], directions: Directions, validated: Sequence[Validation]) -> list[Trusted]:
    """Return the agreement with every kind of validation that there is."""
    name = next(iter(directions))
    called = {"proxy": words.name_of(name), "flops": "FLOPs", "params": "parameters"}
    scored = {row.key: row for row in reversed(rows) if row.key is not None and name in row.scores}
    found: list[Trusted] = []
    targets = {target_name(kind, recipe): (kind, recipe) for kind, recipe in TARGETS}
    for health in trust(rows, directions, validated):
        kind, recipe = targets[health.target]
        own = [
            (scored[one.key], one)
            for one in validated
            if (one.kind, one.recipe) == (kind, recipe) and one.accuracy is not None and one.key in scored
        ]
        lines = [
            HealthLine(
                called[line.predictor],
                interval(line.spearman),
                interval(line.kendall),
                "" if line.partial is None else _number(line.partial.value),
            )
            for line in health.lines
            if health.architectures > 2
        ]
        plot = _plot(own, name, directions[name] == "maximize", health.target, f"proxy-{len(found)}")
        found.append(Trusted(health.target, health.architectures, health.verdict, health.notes, tuple(lines), plot))
    return found


def interval(found: Correlation) -> str:
    """Return a coefficient with its bootstrap interval."""
    if found.low is None or found.high is None:
        return _number(found.value)
    return f"{_number(found.value)} [{_number(found.low)}, {_number(found.high)}]"


def _plot(own: Sequence[tuple[Row, Validation]], score: str, maximize: bool, target: str, name: str) -> Plot:
    values = [
        (row, one, (row.scores[score], one.accuracy or 0.0), (error_of(row, score) or 0.0, one.stderr or 0.0))
        for row, one in own
    ]
    main = upper([v[0] for _, _, v, _ in values], maximize, *X)  # an outlier would leave no room for the others
    there = [(v[0], e[0]) for _, _, v, e in values if main.low <= v[0] <= main.high]
    x = linear([value + s * error for value, error in there for s in (-1, 1)], *X)
    beyond = [not x.low <= v[0] <= x.high for _, _, v, _ in values]
    y = linear([v[1] + s * e[1] for _, _, v, e in values for s in (-1, 1)], *Y)
    bars: list[Line] = []
    for _, _, value, errors in values:
        bars += error_bars(x, y, value, errors, "error")
    return Plot(
        name=name,
        title=f"{words.name_of(score)} against test accuracy as {target}",
        description=f"{counted(len(values), 'validated architecture')}, as the table lists.",
        x_label=words.axis_of(score),
        y_label=f"test accuracy ({target}), %",
        x_ticks=x.ticks(lambda value: words.tick(score, value)),
        y_ticks=y.ticks(lambda value: words.tick("accuracy", value)),
        marks=tuple(
            Mark(
                x.at(value[0]),
                y.at(value[1]),
                "best",
                "dot" if not out else "left" if value[0] < x.low else "right",
                f"trial {row.trial}: {words.shown(score, value[0], errors[0] or None)}, tested"
                f" {words.shown('accuracy', value[1], one.stderr)}",
            )
            for (row, one, value, errors), out in zip(values, beyond, strict=True)
        ),
        lines=tuple(bars),
        keys=(
            Key("best", "dot", "architecture"),
            Key("error", "line", "one standard error"),
            *([Key("best", "left" if maximize else "right", "beyond the range")] if any(beyond) else []),
        ),
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
