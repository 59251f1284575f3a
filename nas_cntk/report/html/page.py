"""The page as values: everything that page.html shows, computed and in words. What is drawn is drawn there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas_cntk.data.sources import counted
from nas_cntk.records.trials import Suggestion
from nas_cntk.report import text
from nas_cntk.report.board import Board
from nas_cntk.report.describe import summary
from nas_cntk.report.html import words
from nas_cntk.report.html.board_table import BoardTable, board_table
from nas_cntk.report.html.confusion import Confusion, confusion
from nas_cntk.report.html.cost import Cost, cost
from nas_cntk.report.html.drawing import Drawing, drawing
from nas_cntk.report.html.front import Front, front
from nas_cntk.report.html.history import history
from nas_cntk.report.html.importance import Importance, importance
from nas_cntk.report.html.plot import Plot
from nas_cntk.report.html.predictions import LeftOut, Predictions
from nas_cntk.report.html.proxy import Trusted, trusted
from nas_cntk.report.html.reproduce import Recipe, named, recipe
from nas_cntk.report.rows import Row, distinct, ranking
from nas_cntk.report.tables import validation_line
from nas_cntk.report.ties import error_of

DRAWN = 3  # architectures
COLUMN = 320  # units of a drawing that a third of the page has room for
ALL = 1000  # trials in the table of all


@dataclass(frozen=True, slots=True)
class Fact:
    """A figure at the top of the page."""

    name: str
    value: str
    detail: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """One of the best architectures."""

    trial: int
    title: str
    facts: tuple[tuple[str, str], ...]
    drawing: Drawing | None  # None if it is too large to draw


@dataclass(frozen=True, slots=True)
class Winner:
    """The trial that is taken home: the best validated one, or else the first of the ranking."""

    row: Row
    network: bool  # it was trained by the standard recipe, whose weights are exported


@dataclass(frozen=True, slots=True)
class Page:
    """Everything on the page."""

    study: str
    about: tuple[tuple[str, str], ...]
    facts: tuple[Fact, ...]
    finished: int
    target: int
    scored: int
    best: BoardTable
    every: BoardTable
    history: Plot | None
    importance: Importance
    trusted: tuple[Trusted, ...]
    validated: BoardTable | None
    cost: Cost
    front: Front | None
    front_table: BoardTable | None
    front_names: tuple[str, ...]
    drawn: tuple[Drawn, ...]
    wide: bool  # some drawing needs more than a column
    confusion: Confusion | None
    left_out: str | None  # why there is no confusion
    recipe: Recipe
    version: str
    written: str


def page(
    board: Board,
    db: str,
    suggested: Mapping[int, Sequence[Suggestion]],
    found: Predictions | LeftOut,
    *,
    top: int,
    written: str,
) -> Page:
    """Return the page of a study; `written` is the time that it shows."""
    from nas_cntk import __version__

    rows, directions = board.rows, board.directions
    ranked, won = ranking(rows), winner(board)
    of_front = front(rows, directions)
    tested = [row for row in distinct(rows) if board.validations_of(row.key)]
    drawn = tuple(_drawn(board, row) for row in _to_draw(ranked, won))
    return Page(
        study=board.study.name,
        about=tuple(_about(board)),
        facts=tuple(_facts(board, ranked, won)),
        finished=len(rows),
        target=board.study.target,
        scored=len(ranked),
        best=board_table(board, distinct(rows)[:top]),
        every=board_table(board, rows[:ALL]),
        history=history(rows, directions),
        importance=importance(rows, directions, suggested),
        trusted=tuple(trusted(rows, directions, board.validated)),
        validated=board_table(board, tested) if tested else None,
        cost=cost(rows, board.rungs, board.validated, board.study.rate),
        front=of_front,
        front_table=None if of_front is None else board_table(board, of_front.rows, of_front.names),
        front_names=() if of_front is None else tuple(words.name_of(name) for name in of_front.names),
        drawn=drawn,
        wide=any(one.drawing is not None and one.drawing.width > COLUMN for one in drawn),
        confusion=confusion(found) if isinstance(found, Predictions) else None,
        left_out=found.reason if isinstance(found, LeftOut) else None,
        recipe=recipe(board, db, None if won is None else won.row.trial, won is not None and won.network),
        version=__version__,
        written=written,
    )


def winner(board: Board) -> Winner | None:
    """Return the winner of a study; None while it has no scored trial."""
    ranked = ranking(board.rows)
    tested = [row for row in ranked if row.cnn_accuracy is not None or row.full_kernel_accuracy is not None]
    if tested:
        best = max(tested, key=lambda row: (row.cnn_accuracy or 0.0, row.full_kernel_accuracy or 0.0))
        return Winner(best, best.cnn_accuracy is not None and best.cnn_recipe == "standard")
    return Winner(ranked[0], False) if ranked else None


def _about(board: Board) -> list[tuple[str, str]]:
    config, identity = board.study.config, board.study.identity
    # What was used may be less than what was asked for: data may have fewer images.
    used = max(((row.subset or 0, row.holdout or 0) for row in board.rows if row.holdout), default=None)
    subset, holdout = used or (identity.get("subset"), identity.get("holdout"))
    shape = "×".join(map(str, board.image_shape))
    return [
        ("data", f"{named(str(config.get('data', '')))}, images of {shape}, {board.num_classes} classes"),
        ("space", named(str(identity.get("space", "")))),
        ("sampler", str(board.study.sampler.get("name", ""))),
        ("scores" if len(board.directions) > 1 else "score", ", ".join(map(words.name_of, board.directions))),
        ("measured with", f"kernels of {subset} images, tested on {holdout} held out"),
    ]


def _facts(board: Board, ranked: Sequence[Row], won: Winner | None) -> list[Fact]:
    name = next(iter(board.directions))
    left_over = sum(row.state != "COMPLETE" for row in board.rows)
    trials = f"{counted(len(ranked), 'distinct architecture')} scored, {counted(left_over, 'trial')} pruned"
    facts = [Fact("trials", f"{len(board.rows)} of {board.study.target}", trials)]
    if ranked:
        best = ranked[0]
        value = words.shown(name, best.scores[name], error_of(best, name))
        facts.insert(0, Fact(f"best {words.name_of(name)}", value, f"trial {best.trial}: {_summary(board, best)}"))
    if won is not None:
        row = won.row
        if row.cnn_accuracy is not None:
            value = text.score("accuracy", row.cnn_accuracy, row.cnn_stderr)
            facts.append(Fact("test accuracy, CNN", value, f"trial {row.trial}, the best validated one"))
        fitted = [one for one in ranked if one.full_kernel_accuracy is not None]
        if fitted:
            best = max(fitted, key=lambda one: one.full_kernel_accuracy or 0.0)
            value = text.score("accuracy", best.full_kernel_accuracy, best.full_kernel_stderr)
            facts.append(Fact("test accuracy, full kernel", value, f"trial {best.trial}, the best of {len(fitted)}"))
        facts.append(
            Fact(
                f"size of trial {row.trial}",
                f"{text.count(row.params)} weights",
                f"{text.count(row.flops)} FLOPs an image",
            )
        )
    return facts


def _summary(board: Board, row: Row) -> str:
    architecture = board.architecture(row.key)
    return "" if architecture is None else summary(architecture)


def _to_draw(ranked: Sequence[Row], won: Winner | None) -> list[Row]:
    """Return the first of the ranking, the winner among them."""
    first = list(ranked[:DRAWN])
    if won is None or won.row.key in {row.key for row in first}:
        return first
    return [*first[: DRAWN - 1], won.row]


def _drawn(board: Board, row: Row) -> Drawn:
    architecture = board.architecture(row.key)
    assert architecture is not None
    facts = [
        (words.name_of(name), words.shown(name, row.scores[name], error_of(row, name)))
        for name in board.directions
        if name in row.scores
    ]
    facts.append(("size", f"{text.count(row.params)} weights, {text.count(row.flops)} FLOPs an image"))
    facts += [validation_line(one) for one in board.validations_of(row.key)]
    picture = drawing(architecture, board.image_shape, board.num_classes)
    return Drawn(row.trial, summary(architecture), tuple(facts), picture)
