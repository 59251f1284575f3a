"""`validate`: the best trained as networks and fitted as full kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nas_cntk.commands.board import print_trust, rows_of
from nas_cntk.commands.options import (
    LONGEST,
    MOST_TRIALS,
    Cluster,
    Config,
    Db,
    Json,
    JsonLines,
    Quiet,
    ShowConfig,
    StudyName,
)
from nas_cntk.commands.output import console_of, print_json, print_next
from nas_cntk.config.effective import print_options
from nas_cntk.errors import UsageError
from nas_cntk.report.text import DEFAULT_DB

if TYPE_CHECKING:
    from rich.console import Console

    from nas_cntk.report.board import Board
    from nas_cntk.report.json_lines import ValidationLines
    from nas_cntk.report.rows import Row
    from nas_cntk.report.validation_view import ValidationView
    from nas_cntk.validate.session import Ended


def validate(
    ctx: typer.Context,
    trials: Annotated[
        list[int] | None, typer.Argument(metavar="TRIAL", min=0, help="Trials by number; else the best.")
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, max=MOST_TRIALS, help="The K best architectures; 5 if not given.")
    ] = None,
    spread: Annotated[
        int | None, typer.Option(min=1, max=MOST_TRIALS, help="K architectures spread over the whole ranking.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="How CNNs are trained: standard or paper.")] = "standard",
    only: Annotated[str | None, typer.Option(help="Compute one kind only: cnn or kernel.")] = None,
    train_images: Annotated[int | None, typer.Option(min=1, help="Use at most so many training images.")] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Epochs of a training; standard 15, paper 10.")
    ] = None,
    width: Annotated[
        int | None, typer.Option(min=1, max=8192, help="Channels of every conv; standard 64, paper 32.")
    ] = None,
    flips: Annotated[bool, typer.Option("--flips", help="Train on images mirrored at random too (standard).")] = False,
    crops: Annotated[bool, typer.Option("--crops", help="Train on shifted images too (standard).")] = False,
    max_seconds: Annotated[
        float, typer.Option(min=1e-6, max=LONGEST, help="Lower the training images to what fits into this time.")
    ] = 3600.0,
    devices: Annotated[str, typer.Option(help="auto, cpu, mps, cuda, or cuda:0,cuda:1.")] = "auto",
    backend: Annotated[str | None, typer.Option(help="Kernel backend; the study's if not given.")] = None,
    cluster: Cluster = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the tiles of the full kernels on disk.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Compute again what is recorded.")] = False,
    data: Annotated[str | None, typer.Option(help="Where the study's data are now, if they moved.")] = None,
    study: StudyName = None,
    db: Db = DEFAULT_DB,
    quiet: Quiet = False,
    as_json: Json = False,
    json_lines: JsonLines = False,
    config: Config = None,
    show_config: ShowConfig = False,
) -> None:
    """Train the best as CNNs and fit them as full-dataset kernels.

    Both are tested on the test set, which nothing else touches, and recorded; then it says how far the proxy score
    can be trusted here. Ctrl-C, or a kill, loses seconds: the same command goes on.
    """
    if show_config:
        return print_options(ctx)
    from nas_cntk.report.views import validation_view
    from nas_cntk.validate import session
    from nas_cntk.validate.wishes import Wishes

    wishes = Wishes(
        tuple(trials or ()),
        top,
        spread,
        recipe,
        epochs,
        width,
        train_images,
        max_seconds,
        only,
        flips,
        crops,
        devices,
        backend,
        keep,
        force,
        cluster,
    )
    if as_json and json_lines:
        raise UsageError("--json and --json-lines exclude each other; give one")
    with validation_view(console_of(stderr=as_json), db, quiet=quiet, json_lines=json_lines) as view:
        ended = session.validate(db, study, wishes, view, moved=data)
    _validated(view, ended, db, quiet, as_json, json_lines)


def _validated(
    view: ValidationView | ValidationLines,
    ended: Ended,
    db: str,
    quiet: bool,
    as_json: bool,
    json_lines: bool,
) -> None:
    from nas_cntk.report.board import load_board
    from nas_cntk.report.views import validation_ends

    board = load_board(db, ended.study)
    console = console_of(stderr=as_json)
    line = validation_ends(view, ended, board, quiet=quiet and not as_json)
    if line is not None:
        console.print(line, markup=False, soft_wrap=True)
    elif not json_lines and not ended.interrupted:
        _print_validated(console, ended, board, db, as_json)
    elif not json_lines:
        console.print("interrupted; finished results are kept, and the same command goes on", markup=False)
    if ended.interrupted:
        raise KeyboardInterrupt


def _is_validated(row: Row) -> bool:
    return row.cnn_recipe is not None or row.full_kernel_accuracy is not None


def _print_validated(console: Console, ended: Ended, board: Board, db: str, as_json: bool) -> None:
    from nas_cntk.report import tables, text
    from nas_cntk.report.ties import MARK, MEANING, tied
    from nas_cntk.report.trust import trust
    from nas_cntk.validate.artifacts import study_folder, weights_path

    keys = [candidate.key for candidate in ended.candidates]
    if as_json:
        found = trust(board.rows, board.directions, board.validated)
        of_these = [one.to_dict() for one in board.validated if one.key in keys]
        health = [one.to_dict() for one in found]
        print_json({"study": ended.study, "validations": of_these, "health": health})
        return
    rows = rows_of(board, top=None, distinct=True, pareto=False)
    rows = [row for row in rows if row.key in keys]
    architectures = {c.key: c.architecture for c in ended.candidates}
    console.print()
    ties = tied(board.rows, board.directions)
    console.print(tables.leaderboard(rows, board.directions, architectures, console.width, ties))
    console.print()
    if any(row.trial in ties for row in rows):
        console.print(f"{MARK} {MEANING}\n", markup=False)
    print_trust(console, board)
    known = [row for row in rows_of(board, top=None, distinct=True, pareto=False) if _is_validated(row)]
    best = max(known, key=lambda row: (row.cnn_accuracy or 0.0, row.full_kernel_accuracy or 0.0))
    cnns = [one for one in board.validated if one.key in keys and one.kind == "cnn"]
    if any(weights_path(db, ended.study, one.key, str(one.recipe)).exists() for one in cnns):
        console.print(f"weights in {study_folder(db, ended.study)}", markup=False, soft_wrap=True)
    has_weights = best.key is not None and weights_path(db, ended.study, best.key, "standard").exists()
    model = () if has_weights else ("--kernel",)  # a network is exported with weights of the standard recipe
    kernel = max(known, key=lambda row: row.full_kernel_accuracy or 0.0)
    if has_weights and (kernel.full_kernel_accuracy or 0.0) > (best.cnn_accuracy or 0.0):
        command = text.command("export", str(kernel.trial), "--kernel", "--to", "kernel", db=db, study=ended.study)
        has = f"the full kernel of trial {kernel.trial} has {text.score('accuracy', kernel.full_kernel_accuracy)}"
        network = f"the best network {text.score('accuracy', best.cnn_accuracy)}"
        console.print(f"{has}, {network}; to keep it: {command}", markup=False, soft_wrap=True)
    print_next(console, text.command("export", str(best.trial), *model, "--to", "model", db=db, study=ended.study))
