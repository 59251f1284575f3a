"""The leaderboard as a table of the page, its figures as `leaderboard --json` has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas_cntk.report import text
from nas_cntk.report.board import Board
from nas_cntk.report.describe import summary
from nas_cntk.report.html import words
from nas_cntk.report.rows import Row
from nas_cntk.report.ties import error_of, tied


@dataclass(frozen=True, slots=True)
class Cell:
    """What a cell shows, and the whole figure, which programs may read."""

    shown: str
    value: float | int | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A trial."""

    trial: int
    complete: bool
    tied: bool
    cells: tuple[Cell, ...]  # as the heads
    architecture: str  # or why there is none


@dataclass(frozen=True, slots=True)
class BoardTable:
    """Heads of the figures, and the trials."""

    heads: tuple[str, ...]
    lines: tuple[Line, ...]
    ties: int  # trials of the whole study that are tied with the best
    of: int  # trials of the whole study


def board_table(board: Board, rows: Sequence[Row], names: Sequence[str] | None = None) -> BoardTable:
    """Return some rows of a board, with the scores of `names`, the study's own and all else if not given."""
    scores = [name for name in names or board.directions if not words.is_count(name)]
    brief = names is not None
    has_cnn = not brief and any(row.cnn_recipe is not None for row in rows)
    has_kernel = not brief and any(row.full_kernel_accuracy is not None for row in rows)
    heads = [
        *map(words.name_of, scores),
        *(["CNN, test"] if has_cnn else []),
        *(["full kernel, test"] if has_kernel else []),
        "parameters",
        "FLOPs",
        *([] if brief else ["time"]),
    ]
    ties = tied(board.rows, board.directions)
    lines = []
    for row in rows:
        cells = [
            Cell(words.shown(name, row.scores.get(name), error_of(row, name)), row.scores.get(name)) for name in scores
        ]
        if has_cnn:
            cells.append(_tested(row.cnn_recipe is not None, row.cnn_accuracy, row.cnn_stderr))
        if has_kernel:
            cells.append(
                _tested(row.full_kernel_accuracy is not None, row.full_kernel_accuracy, row.full_kernel_stderr)
            )
        seconds = row.seconds if row.duplicate_of is None else None
        cells += [
            Cell(text.count(row.params), row.params),
            Cell(text.count(row.flops), row.flops),
            *([] if brief else [Cell(text.duration(seconds), seconds)]),
        ]
        lines.append(Line(row.trial, row.state == "COMPLETE", row.trial in ties, tuple(cells), _words(board, row)))
    return BoardTable(tuple(heads), tuple(lines), len(ties), len(board.rows))


def _tested(validated: bool, accuracy: float | None, error: float | None) -> Cell:
    if not validated:
        return Cell("-")
    return Cell("diverged") if accuracy is None else Cell(text.score("accuracy", accuracy, error), accuracy)


def _words(board: Board, row: Row) -> str:
    if row.state != "COMPLETE":
        return f"pruned: {row.reason}"
    architecture = board.architecture(row.key)
    said = "" if architecture is None else summary(architecture)
    return said if row.duplicate_of is None else f"= trial {row.duplicate_of}: {said}"
