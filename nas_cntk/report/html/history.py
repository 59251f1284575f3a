"""The history of a search: every trial's score, and the best so far."""

from __future__ import annotations

from collections.abc import Sequence

from nas_cntk.data.sources import counted
from nas_cntk.report.html import words
from nas_cntk.report.html.plot import Band, Key, Mark, Plot, X, Y, line, thinned
from nas_cntk.report.html.scale import Scale, upper
from nas_cntk.report.rows import Directions, Row
from nas_cntk.report.ties import error_of


def history(rows: Sequence[Row], directions: Directions) -> Plot | None:
    """Return the plot of the score that ranks over trials; None without a scored trial."""
    name = next(iter(directions))
    ordered = sorted(rows, key=lambda row: row.ordinal)
    largest = max((row.subset or 0 for row in ordered if row.state == "COMPLETE"), default=0)
    scored = [row for row in ordered if row.state == "COMPLETE" and (row.subset or 0) == largest and name in row.scores]
    if not scored:
        return None
    sign = 1.0 if directions[name] == "maximize" else -1.0
    bests: list[Row] = []
    for row in scored:
        if not bests or sign * row.scores[name] > sign * bests[-1].scores[name]:
            bests.append(row)
    x = Scale(-0.5, ordered[-1].ordinal + 0.5, *X)
    y = upper([row.scores[name] for row in scored], directions[name] == "maximize", *Y)
    best, error = bests[-1], error_of(bests[-1], name)
    bands = []
    if error:
        top, bottom = y.at(best.scores[name] + error), y.at(best.scores[name] - error)
        bands.append(Band(X[0], top, X[1] - X[0], round(bottom - top, 1)))
    path: list[tuple[float, float]] = []
    for row in bests:
        if path:
            path.append((x.at(row.ordinal), path[-1][1]))
        path.append((x.at(row.ordinal), y.at(row.scores[name])))
    path.append((x.at(ordered[-1].ordinal), path[-1][1]))
    steps, measured = {row.trial for row in bests}, {row.trial for row in scored}
    there = [row for row in ordered if row.state != "COMPLETE" or row.trial in measured]
    marks = [_mark(row, name, x, y, row.trial in steps) for row in thinned(there, steps)]
    dropped = len(ordered) - len(scored)
    said = words.shown(name, best.scores[name], error)
    keys = [
        Key("best", "diamond", "better than all before"),
        Key("plain", "dot", "trial"),
        *([Key("plain", "down", "beyond the range")] if any(mark.shape == "down" for mark in marks) else []),
        *([Key("pruned", "cross", "pruned")] if dropped else []),
        *([Key("band", "band", "best ± one standard error")] if bands else []),
    ]
    return Plot(
        name="history",
        title=f"{words.name_of(name)} of every trial",
        description=(
            f"{counted(len(scored), 'trial')} with a score and {dropped} without; the best one, {said}, is trial"
            f" {best.trial}, after {counted(len(bests) - 1, 'improvement')}."
        ),
        x_label="trial",
        y_label=words.axis_of(name),
        x_ticks=x.ticks(lambda value: f"{value:g}" if value == int(value) else ""),
        y_ticks=y.ticks(lambda value: words.tick(name, value)),
        marks=tuple(marks),
        lines=(line(path, "best"),),
        bands=tuple(bands),
        keys=tuple(keys),
    )


def _mark(row: Row, name: str, x: Scale, y: Scale, best: bool) -> Mark:
    if row.state != "COMPLETE" or name not in row.scores:
        return Mark(x.at(row.ordinal), Y[0], "pruned", "cross", f"trial {row.trial}: pruned, {row.reason}")
    value = row.scores[name]
    said = f"trial {row.trial}: {words.shown(name, value)}"
    beyond = not y.low <= value <= y.high
    shape = "down" if beyond else "diamond" if best else "dot"
    return Mark(x.at(row.ordinal), y.at(value), "best" if best else "plain", shape, said)
