"""Rows by the names of their columns: sorted, chosen, and as CSV. Columns are the fields of `leaderboard --json`."""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Sequence
from dataclasses import fields

from nas_cntk.errors import UsageError
from nas_cntk.report import text
from nas_cntk.report.rows import Directions, Row

_FIELDS = tuple(field.name for field in fields(Row))
_AS_HEADED = {  # what the tables call some columns
    "time": "seconds",
    "cnn": "cnn_accuracy",
    "kernel": "full_kernel_accuracy",
    "held out": "proxy_accuracy",
    "held-out accuracy": "holdout_accuracy",
}
_MORE_IS_WORSE = ("params", "flops", "seconds", "predicted_seconds", "trial", "ordinal", "key", "state", "reason")


def names_of(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the columns that the rows have: their fields, and every score by its name."""
    scores = dict.fromkeys(name for row in rows for name in row.scores if name not in _FIELDS)
    return (*(name for name in _FIELDS if name != "scores"), *scores)


def parse(given: str, rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the columns of a comma list; some go by what the tables call them too.

    Raises:
        UsageError: on an unknown one, with the nearest that is known.
    """
    known, found = names_of(rows), []
    for part in given.split(","):
        name = part.strip()
        if name not in known:
            name = _AS_HEADED.get(name.lower(), name)
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise UsageError(f"no column {name[:40]!r}; {hint}")
        found.append(name)
    return tuple(found)


def value(row: Row, name: str) -> object:
    """Return what a row has in a column."""
    return getattr(row, name) if name in _FIELDS else row.scores.get(name)


def ordered(rows: Sequence[Row], name: str, directions: Directions) -> list[Row]:
    """Return the rows by one column, best first; those that have nothing there last.

    Scores go by their direction; accuracies from the greatest, sizes, times and words from the least.
    """
    from nas_cntk.scoring import SCORES

    direction = directions.get(name) or (SCORES[name].direction if name in SCORES else None)
    least_first = direction == "minimize" or name in _MORE_IS_WORSE
    there = [row for row in rows if value(row, name) is not None]
    there.sort(key=lambda row: _sortable(value(row, name)), reverse=not least_first)
    return [*there, *(row for row in rows if value(row, name) is None)]


def to_csv(rows: Sequence[Row], names: Sequence[str]) -> str:
    """Return the rows as CSV with a head; nothing where something is not known, accuracies in [0, 1]."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_plain(value(row, name)) for name in names])
    return out.getvalue()


def cells(rows: Sequence[Row], names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the rows as a table shows them."""
    return [tuple(_shown(row, name) for name in names) for row in rows]


def is_number(rows: Sequence[Row], name: str) -> bool:
    """Return whether a column holds numbers, which a table aligns to the right."""
    return any(isinstance(value(row, name), (int, float)) for row in rows)


def _shown(row: Row, name: str) -> str:
    found = value(row, name)
    if found is None:
        return "-"
    if name.endswith("seconds") and isinstance(found, float):
        return text.duration(found)
    if name in ("params", "flops") and isinstance(found, int):
        return text.count(found)
    if isinstance(found, float):
        return text.score("accuracy" if name.endswith("stderr") else name, found)
    return _plain(found)


def _plain(found: object) -> str:
    if found is None:
        return ""
    return json.dumps(found, sort_keys=True) if isinstance(found, dict) else str(found)


def _sortable(found: object) -> tuple[float, str]:
    return (float(found), "") if isinstance(found, (int, float)) else (0.0, _plain(found))
