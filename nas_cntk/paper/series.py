"""The theorems' cells as curves over the width, and the slope of a curve in a log-log plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from nas_cntk.paper.rows import DONE, Row


@dataclass(frozen=True, slots=True)
class Series:
    """A curve: cells that differ in the width alone."""

    title: str
    rows: tuple[Row, ...]


def series(rows: Sequence[Row]) -> list[Series]:
    """Return the curves of a theorem's rows, in order."""
    found = []
    keys = groupby(rows, key=lambda r: (r.column, r.depth, r.size, r.number("kappa")))
    for (column, depth, size, kappa), group in keys:
        words = f"{column}, depth {depth}" + (f", kappa {kappa:g}" if kappa is not None else "")
        words += f": {size.words()}"
        found.append(Series(words, tuple(group)))
    return found


def fit_slope(rows: Sequence[Row]) -> tuple[float, float] | None:
    """Return the slope of log distance over log width, and its standard error; None of fewer than two points.

    Plain least squares: weights by the points' own errors would favour those that chance has made small. The error
    follows from the points' errors.
    """
    points = [
        (math.log(width), math.log(distance), error / distance)
        for row in rows
        if row.state == DONE
        and (width := row.number("width")) is not None
        and (distance := row.number("distance")) is not None
        and (error := row.number("distance_error")) is not None
        and min(width, distance, error) > 0
    ]
    if len(points) < 2:
        return None
    x, y, sigma = np.array(points).T
    centred = x - x.mean()
    spread = float(centred @ centred)
    if not spread > 0:
        return None
    return float(centred @ y) / spread, float(np.linalg.norm(centred * sigma)) / spread


def together(rows: Sequence[Row]) -> str:
    """Return the distances of theorem 3.2 as the width grows and kappa shrinks, step by step; empty of one step."""
    cells = {(row.depth, row.number("width"), row.number("kappa")): row for row in rows if row.state == DONE}
    lines = []
    for depth in sorted({row.depth for row in rows}):
        widths = sorted({row.number("width") or 0.0 for row in rows if row.depth == depth})
        kappas = sorted({row.number("kappa") or 0.0 for row in rows if row.depth == depth}, reverse=True)
        path = [cells.get((depth, width, kappa)) for width, kappa in zip(widths, kappas, strict=False)]
        steps = [
            f"{row.number('distance'):.4f} ± {row.number('distance_error'):.4f}"
            f" ({row.number('width'):g}, {row.number('kappa'):g})"
            for row in path
            if row is not None
        ]
        if len(steps) > 1:
            lines.append(f"depth {depth}, width and kappa together: {', '.join(steps)}")
    return "; ".join(lines)
