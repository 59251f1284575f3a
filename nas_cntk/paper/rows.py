"""Cells as rows: what `--json` prints, and what tables and plots are made of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nas_cntk.paper.bench import Asked, unpacked
from nas_cntk.paper.columns import Size
from nas_cntk.records.paper import PaperCell

DONE, PENDING, FAILED, TOO_LARGE, DIVERGED = "done", "pending", "failed", "too large", "diverged"
STATES = (DONE, PENDING, FAILED, TOO_LARGE, DIVERGED)

_HIDDEN = (
    "correct",
    "middle",
    "is_papers",
    "side",
    "data",
    "data_name",
    "classes",
)  # of the details: not for people, or said above


@dataclass(frozen=True, slots=True)
class Row:
    """A cell, finished or not, beside what the paper prints.

    `paper` and `difference` are None where the paper has no figure, or has it for more images. `distance` is what
    the theorems' cells measure.
    """

    experiment: str
    column: str
    depth: int
    size: Size
    state: str
    accuracy: float | None = None  # in [0, 1]
    paper: float | None = None
    standard_error: float | None = None
    seconds: float | None = None
    reason: str = ""  # why it failed or was left out
    details: Mapping[str, object] = field(default_factory=dict)

    @property
    def difference(self) -> float | None:
        """Ours less the paper's."""
        return None if self.accuracy is None or self.paper is None else self.accuracy - self.paper

    def number(self, name: str) -> float | None:
        """Return a number of the details; None if it is not there."""
        value = self.details.get(name)
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None

    def to_dict(self) -> dict[str, object]:
        """Return it for JSON."""
        extra = {name: value for name, value in self.details.items() if name not in _HIDDEN}
        return {
            "column": self.column,
            "depth": self.depth,
            "accuracy": self.accuracy,
            "paper": self.paper,
            "difference": self.difference,
            "standard_error": self.standard_error,
            "train": self.size.train,
            "test": self.size.test,
            "seconds": self.seconds,
            "state": self.state,
            "experiment": self.experiment,
            "image_size": self.size.side,
            **({"reason": self.reason} if self.reason else {}),
            **({"details": extra} if extra else {}),
        }


def row_of(asked: Asked, cell: PaperCell | None, state: str = PENDING, reason: str = "") -> Row:
    """Return the row of a cell that was asked for, with what is recorded of it."""
    if cell is None:
        details = {name: value for name, value in asked.settings.items()}
        return Row(asked.experiment, asked.column.name, asked.depth, asked.size, state, reason=reason, details=details)
    figure = asked.column.figure(asked.depth) if asked.is_papers else None
    diverged = cell.accuracy is None and cell.details.get("diverged") is True
    return Row(
        asked.experiment,
        asked.column.name,
        asked.depth,
        asked.size,
        DIVERGED if diverged else DONE,
        cell.accuracy,
        figure,
        cell.stderr,
        cell.seconds,
        details=cell.details,
    )


def paired(exact: Row, other: Row) -> tuple[float, float] | None:
    """Return by how much one row's accuracy exceeds another's on the same test images, and its standard error."""
    m = exact.size.test
    ours, theirs = _correct(exact), _correct(other)
    if exact.size != other.size or ours is None or theirs is None or m < 2:
        return None
    gain = ours - theirs
    return float(gain.mean()), float(gain.std(ddof=1) / np.sqrt(m))


def _correct(row: Row) -> np.ndarray[tuple[int], np.dtype[np.float64]] | None:
    texts = row.details.get("middle", row.details.get("correct"))
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, Sequence) or not texts:
        return None
    found: np.ndarray[tuple[int], np.dtype[np.float64]] = np.mean(
        [unpacked(str(text), row.size.test) for text in texts], axis=0
    )
    return found


def to_json(rows: Sequence[Row]) -> str:
    """Return rows as the text of a JSON list."""
    return json.dumps([row.to_dict() for row in rows], indent=2, allow_nan=False)
