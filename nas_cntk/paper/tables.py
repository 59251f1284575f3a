"""An experiment's rows as tables that fit 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nas_cntk.paper import columns
from nas_cntk.paper.columns import Column, Size
from nas_cntk.paper.rows import DONE, Row, paired
from nas_cntk.paper.series import fit_slope, series, together
from nas_cntk.report import text

KNOWN: dict[str, tuple[Column, ...]] = {
    "table1": columns.TABLE_1,
    "table2": columns.TABLE_2,
    "gp": columns.GP,
    "theorem1": columns.THEOREM_1,
    "theorem2": columns.THEOREM_2,
}

Line = tuple[str, ...]
ACCURACIES: Line = ("depth", "ours", "paper", "difference", "std. error", "time")
DISTANCES: Line = ("width", "distance", "std. error", "time")
_LEAST = 10  # of a column, so that blocks stand below each other


def tables(rows: Sequence[Row]) -> RenderableType:
    """Return an experiment's table: one block a column of the paper, or a curve of a plot."""
    parts: list[RenderableType] = []
    for title, names, lines, below in blocks(rows):
        if parts:
            parts.append(Text())
        parts.append(Text(title, style="bold"))
        parts.append(_table(names, lines))
        parts += [Text(line) for line in below]
    return Group(*parts)


def blocks(rows: Sequence[Row]) -> list[tuple[str, Line, list[Line], list[str]]]:
    """Return the blocks of an experiment's table: title, names of its columns, lines, sentences below."""
    found: list[tuple[str, Line, list[Line], list[str]]] = []
    if rows and rows[0].experiment.startswith("theorem"):
        for curve in series(rows):
            lines = [distance_line(row) for row in curve.rows]
            fitted = fit_slope(curve.rows)
            slope = [f"slope {fitted[0]:.2f} ± {fitted[1]:.2f} (theory: -1/2)"] if fitted is not None else []
            below = slope if rows[0].experiment == "theorem1" else _untrained(curve.rows)
            found.append((curve.title, DISTANCES, lines, below + reasons(curve.rows)))
        path = together(rows) if rows[0].experiment == "theorem2" else ""
        if path:
            found[-1][3].append(path)
        return found
    for _, group in groupby(rows, key=lambda row: (row.column, row.size)):
        of_column = list(group)
        found.append((head(of_column), ACCURACIES, [accuracy_line(row) for row in of_column], reasons(of_column)))
    if found:
        found[-1][3].extend(gains(rows))
    return found


def _untrained(rows: Sequence[Row]) -> list[str]:
    """Return which nets of theorem 3.2 were not trained to near zero loss in the steps that they have."""
    from nas_cntk.paper.theorem2 import MOST_STEPS, TOLERANCE

    return [
        f"width {row.number('width'):g}: after {MOST_STEPS:,} steps a training image is still off by {off:.2g}"
        for row in rows
        if (off := row.number("residual")) is not None and off > TOLERANCE
    ]


def gains(rows: Sequence[Row]) -> list[str]:
    """Return by how much exact kernels exceed random features on the same images, a sentence a depth and head."""
    found = []
    by_cell = {(row.column, row.size, row.depth): row for row in rows if row.state == DONE}
    for (name, size, depth), row in by_cell.items():
        exact = by_cell.get((name.replace("RF-", "CNTK-"), size, depth))
        gain = paired(exact, row) if name.startswith("RF-") and exact is not None else None
        if gain is not None:
            more = "" if gain[0] > gain[1] else "; not more than its error"
            ours = f"{points(gain[0])} ± {points(gain[1], sign=False)} points"
            found.append(f"{name.replace('RF-', 'CNTK-')} over {name}, depth {depth}: {ours}{more}")
    return found


def head(rows: Sequence[Row]) -> str:
    """Return the head of a column; one on fewer images than the paper's says so."""
    row = rows[0]
    column = next(one for one in KNOWN[row.experiment] if one.name == row.column)
    words = f"{row.column}: {row.size.words()}"
    if not column.printed or column.paper is None or any(row.paper is not None for row in rows):
        return words
    if row.size == column.paper:
        return f"{words}, not the paper's" if any(row.state == DONE for row in rows) else words
    return f"{words} (paper: {_short(column.paper)})"


def accuracy_line(row: Row) -> Line:
    """Return a cell of a table of accuracies."""
    if row.state != DONE:
        return (str(row.depth), row.state, "", "", "", "")
    return (
        str(row.depth),
        percent(row.accuracy),
        percent(row.paper),
        points(row.difference),
        points(row.standard_error, sign=False),
        text.duration(row.seconds),
    )


def distance_line(row: Row) -> Line:
    """Return a point of a curve."""
    width, distance, error = row.number("width"), row.number("distance"), row.number("distance_error")
    if row.state != DONE or distance is None:
        return (f"{width or 0:.0f}", row.state, "", "")
    return (
        f"{width or 0:.0f}",
        f"{distance:.4f}",
        "" if error is None else f"{error:.4f}",
        text.duration(row.seconds),
    )


def reasons(rows: Sequence[Row]) -> list[str]:
    """Return why cells are not done, each reason once."""
    return list(dict.fromkeys(f"{row.state}: {row.reason}" for row in rows if row.reason))


def percent(value: float | None) -> str:
    """Return a fraction in percent."""
    return "" if value is None else f"{100 * value:.2f} %"


def points(value: float | None, *, sign: bool = True) -> str:
    """Return a difference of fractions in points."""
    return "" if value is None else f"{100 * value:+.2f}" if sign else f"{100 * value:.2f}"


def _table(names: Line, lines: Sequence[Line]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for number, name in enumerate(names):
        table.add_column(name, justify="right", no_wrap=True, min_width=_LEAST if number else 5)
    for line in lines:
        table.add_row(*map(Text, line))
    return table


def _short(size: Size) -> str:
    return f"{size.train:,} + {size.test:,} of {size.side}x{size.side}"
