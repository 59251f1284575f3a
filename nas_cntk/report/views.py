"""Which view a search or a validation is shown by, and how it ends for those that want no tables."""

from __future__ import annotations

from rich.console import Console

from nas_cntk.data.sources import counted
from nas_cntk.errors import UsageError
from nas_cntk.report import text
from nas_cntk.report.board import Board
from nas_cntk.report.json_lines import SearchLines, ValidationLines
from nas_cntk.report.live import LiveView
from nas_cntk.report.validation_view import ValidationView
from nas_cntk.search import session as search
from nas_cntk.validate import session as validation


def search_view(console: Console, db: str, *, quiet: bool, json_lines: bool) -> LiveView | SearchLines:
    """Return what shows a search.

    Raises:
        UsageError: if both are asked for.
    """
    _check(quiet, json_lines)
    return SearchLines(db) if json_lines else LiveView(_silent() if quiet else console, db)


def validation_view(console: Console, db: str, *, quiet: bool, json_lines: bool) -> ValidationView | ValidationLines:
    """Return what shows a validation.

    Raises:
        UsageError: if both are asked for.
    """
    _check(quiet, json_lines)
    return ValidationLines(db) if json_lines else ValidationView(_silent() if quiet else console, db)


def search_ends(view: LiveView | SearchLines, ended: search.Ended, board: Board, *, quiet: bool) -> str | None:
    """Say the last event to programs; return the one line that `--quiet` leaves."""
    name = next(iter(board.directions))
    best = next((row for row in board.rows if row.state == "COMPLETE"), None)
    if isinstance(view, SearchLines):
        view.ends(
            how=ended.how,
            study=ended.study,
            finished=ended.finished,
            target=ended.target,
            best=None if best is None else best.scores[name],
            best_trial=None if best is None else best.trial,
        )
    if not quiet:
        return None
    line = f"study {ended.study}: {ended.how}, {ended.finished} of {ended.target} trials"
    return line if best is None else f"{line}, best {name} {text.score(name, best.scores[name])} (trial {best.trial})"


def validation_ends(
    view: ValidationView | ValidationLines, ended: validation.Ended, board: Board, *, quiet: bool
) -> str | None:
    """Say the last event to programs; return the one line that `--quiet` leaves."""
    keys = {candidate.key for candidate in ended.candidates}
    recorded = sum(one.key in keys for one in board.validated)
    how = "interrupted" if ended.interrupted else "complete"
    if isinstance(view, ValidationLines):
        view.ends(how=how, study=ended.study, architectures=len(keys), recorded=recorded)
    results, architectures = counted(recorded, "result"), counted(len(keys), "architecture")
    return f"validation of {ended.study}: {how}, {results} of {architectures}" if quiet else None


def _check(quiet: bool, json_lines: bool) -> None:
    if quiet and json_lines:
        raise UsageError("--quiet and --json-lines exclude each other; give one")


def _silent() -> Console:
    return Console(quiet=True, force_terminal=False)
