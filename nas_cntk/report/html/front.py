"""The Pareto front: of the study's scores, or of the one score and the cost of a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas_cntk.report.html import words
from nas_cntk.report.html.plot import Key, Mark, Plot, X, Y, line, thinned
from nas_cntk.report.html.scale import Scale, logarithmic, upper
from nas_cntk.report.rows import Directions, Row, distinct, pareto, ranking


@dataclass(frozen=True, slots=True)
class Front:
    """What no architecture betters in all of these, by the first of them."""

    names: tuple[str, ...]
    rows: tuple[Row, ...]
    plot: Plot | None  # of the first two


def front(rows: Sequence[Row], directions: Directions) -> Front | None:
    """Return the front of distinct architectures on the full subset; None without one that has every score."""
    names = dict(directions)
    if len(names) == 1:
        names["params" if "flops" in names else "flops"] = "minimize"
    there = [row for row in ranking(rows) if all(name in row.scores for name in names)]
    if not there:
        return None
    found = distinct(pareto(there, names))
    sign = -1.0 if names[next(iter(names))] == "maximize" else 1.0
    found.sort(key=lambda row: sign * row.scores[next(iter(names))])
    return Front(tuple(names), tuple(found), _plot(there, found, names) if len(there) > 1 else None)


def _plot(there: Sequence[Row], found: Sequence[Row], directions: Directions) -> Plot:
    first, second = list(directions)[:2]
    x = _scale([row.scores[second] for row in there], second, directions, X)
    y = _scale([row.scores[first] for row in there], first, directions, Y)
    on_it = {row.trial for row in found}
    marks = [
        Mark(
            x.at(row.scores[second]),
            y.at(row.scores[first]),
            "best" if row.trial in on_it else "plain",
            _shape(row, row.trial in on_it, first, y),
            f"trial {row.trial}: {words.shown(first, row.scores[first])}, {words.shown(second, row.scores[second])}"
            f" {words.name_of(second)}",
        )
        for row in sorted(thinned(there, on_it), key=lambda row: row.trial in on_it)
    ]
    path = _stairs(
        sorted((x.at(row.scores[second]), y.at(row.scores[first])) for row in found),
        directions[second] == "minimize",
    )
    return Plot(
        name="front",
        title=f"{words.name_of(first)} against {words.name_of(second)}",
        description=f"{len(there)} architectures, {len(found)} of them on the Pareto front, which the table lists"
        + ("." if len(directions) == 2 else f"; the plot shows two of the {len(directions)} scores."),
        x_label=words.axis_of(second),
        y_label=words.axis_of(first),
        x_ticks=x.ticks(lambda value: words.tick(second, value)),
        y_ticks=y.ticks(lambda value: words.tick(first, value)),
        marks=tuple(marks),
        lines=(line(path, "best"),) if len(path) > 1 and len(directions) == 2 else (),
        keys=(
            Key("best", "diamond", "Pareto front"),
            Key("plain", "dot", "other architectures"),
            *([Key("plain", "down", "beyond the range")] if any(mark.shape == "down" for mark in marks) else []),
        ),
    )


def _stairs(points: Sequence[tuple[float, float]], level_first: bool) -> list[tuple[float, float]]:
    """Return the edge of what the points better: level to the next one and then to its height, or the other way."""
    path: list[tuple[float, float]] = []
    for x, y in points:
        if path:
            path.append((x, path[-1][1]) if level_first else (path[-1][0], y))
        path.append((x, y))
    return path


def _shape(row: Row, on_it: bool, name: str, y: Scale) -> str:
    beyond = not y.log and not y.low <= row.scores[name] <= y.high
    return "down" if beyond else "diamond" if on_it else "dot"


def _scale(values: Sequence[float], name: str, directions: Directions, ends: tuple[int, int]) -> Scale:
    if words.is_count(name) and min(values) > 0:
        return logarithmic(values, *ends)
    return upper(values, directions[name] == "maximize", *ends)
