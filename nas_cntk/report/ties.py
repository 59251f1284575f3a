"""Which trials cannot be told from the best: their scores differ by no more than the standard error."""

from __future__ import annotations

from collections.abc import Sequence

from nas_cntk.report.rows import Directions, Row
from nas_cntk.scoring import standard_error

MARK = "*"
MEANING = "within one standard error of the best"


def error_of(row: Row, name: str) -> float | None:
    """Return the standard error of a row's score; None if it has none, or is no accuracy."""
    value = row.scores.get(name)
    if value is None or not row.subset or not row.holdout:
        return None
    return standard_error(name, value, row.subset, row.holdout)


def tied(rows: Sequence[Row], directions: Directions) -> frozenset[int]:
    """Return the trials tied with the best of the rows by the score that ranks, the best among them; else nothing.

    Tied is a COMPLETE trial on as many images as the best, whose score is apart by no more than the larger of the two
    standard errors. A score without a standard error ties with its equals alone. Architectures equal to the best by
    their key are the best, and no tie.
    """
    name = next(iter(directions))
    complete = [row for row in rows if row.state == "COMPLETE" and name in row.scores]
    if not complete:
        return frozenset()
    best = complete[0]
    close = [row for row in complete if row.subset == best.subset and _close(row, best, name)]
    others = [row for row in close if row.key != best.key]
    return frozenset(row.trial for row in close) if others else frozenset()


def _close(row: Row, best: Row, name: str) -> bool:
    error = max(error_of(row, name) or 0.0, error_of(best, name) or 0.0)
    return abs(row.scores[name] - best.scores[name]) <= error
