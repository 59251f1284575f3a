"""A plot as values: axes, lines and marks at their places, which charts.html draws as SVG.

Places are units of the view box, x to the right and y downwards. What a reader must know of a plot is in `title` and
`description`, which screen readers say instead of it.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from nas_cntk.report.html.scale import Scale, Tick
from nas_cntk.report.rows import Row

MOST = 3000  # marks; of more, evenly spread ones and those that matter
WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 58, 10, 10, 42  # margins, for the labels


@dataclass(frozen=True, slots=True)
class Mark:
    """A point; `kind` says its colour, and `shape` tells it apart without one.

    Shapes are dot, cross and diamond, and for what lies beyond the range down, left and right.
    """

    x: float
    y: float
    kind: str
    shape: str
    title: str


@dataclass(frozen=True, slots=True)
class Line:
    """A polyline."""

    points: str
    kind: str


@dataclass(frozen=True, slots=True)
class Band:
    """A rectangle behind everything."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Key:
    """An entry of the legend."""

    kind: str
    shape: str  # as of marks, or line, band
    label: str


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot; `name` is unique on the page."""

    name: str
    title: str
    description: str
    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    marks: tuple[Mark, ...] = ()
    lines: tuple[Line, ...] = ()
    bands: tuple[Band, ...] = ()
    keys: tuple[Key, ...] = ()
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


X = (LEFT, WIDTH - RIGHT)  # the ends of a scale along x
Y = (HEIGHT - BOTTOM, TOP)  # and along y, upwards


def thinned(rows: Sequence[Row], keep: Container[int] = ()) -> list[Row]:
    """Return about `MOST` of the rows in their order, the trials in `keep` among them."""
    step = -(-len(rows) // MOST) or 1
    return [row for place, row in enumerate(rows) if place % step == 0 or row.trial in keep]


def line(points: Sequence[tuple[float, float]], kind: str) -> Line:
    """Return a polyline through places."""
    return Line(" ".join(f"{x:g},{y:g}" for x, y in points), kind)


def error_bars(x: Scale, y: Scale, value: tuple[float, float], errors: tuple[float, float], kind: str) -> list[Line]:
    """Return a cross of bars of one standard error each way; none where an error is 0."""
    found = []
    if errors[0] > 0:
        at = y.at(value[1])
        found.append(line([(x.at(value[0] - errors[0]), at), (x.at(value[0] + errors[0]), at)], kind))
    if errors[1] > 0:
        at = x.at(value[0])
        found.append(line([(at, y.at(value[1] - errors[1])), (at, y.at(value[1] + errors[1]))], kind))
    return found
