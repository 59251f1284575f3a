"""`leaderboard`, `show`, `report`: what a study has found."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from nas_cntk.commands.options import LONGEST, MOST_TRIALS, Db, Json, StudyName
from nas_cntk.commands.output import console_of, print_json, print_next
from nas_cntk.report.text import DEFAULT_DB, clean

if TYPE_CHECKING:
    from rich.console import Console

    from nas_cntk.report.board import Board
    from nas_cntk.report.rows import Row


def leaderboard(
    study: StudyName = None,
    top: Annotated[int | None, typer.Option(min=1, help="Show the first N rows.")] = None,
    distinct: Annotated[bool, typer.Option("--distinct", help="One row an architecture.")] = False,
    pareto: Annotated[bool, typer.Option("--pareto", help="Only the Pareto front of the study's scores.")] = False,
    sort: Annotated[str | None, typer.Option(metavar="COLUMN", help="Order by a column of --json, best first.")] = None,
    columns: Annotated[str | None, typer.Option(help="Columns of --json to show, comma-separated.")] = None,
    csv: Annotated[str | None, typer.Option(metavar="FILE", help="Write CSV there; - prints it.")] = None,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> None:
    """Show a study's trials, best first.

    Trials on the full subset come first; pruned ones, with the reason, last. Those within one standard error of the
    best are marked.
    """
    from nas_cntk.report import columns as by_name
    from nas_cntk.report.board import load_board

    board = load_board(db, study)
    chosen = by_name.parse(columns, board.rows) if columns is not None else None
    if sort is not None:
        (sort,) = by_name.parse(sort, board.rows)[:1]
    rows = rows_of(board, top=top, distinct=distinct, pareto=pareto, sort=sort)
    if as_json:
        print_json([row.to_dict() for row in rows])
        return
    if csv is not None:
        table = by_name.to_csv(rows, chosen or by_name.names_of(board.rows))
        if csv == "-":
            print(clean(table, "\n") if sys.stdout.isatty() else table, end="")
            return
        from pathlib import Path

        from nas_cntk.files import write_file

        write_file(Path(csv), lambda file: file.write(table.encode()))
        console_of().print(f"wrote {csv}: {len(rows)} trials", markup=False, soft_wrap=True)
        return
    console = console_of()
    if chosen is not None:
        from nas_cntk.report import tables

        heads = [f"{name}>" if by_name.is_number(rows, name) else name for name in chosen]
        console.print(tables.plain(heads, by_name.cells(rows, chosen), console.width))
        return
    print_board(console, board, rows, db, selection(top=top, distinct=distinct, pareto=pareto))


def show(
    trial: Annotated[int, typer.Argument(metavar="TRIAL", min=0, help="Number of a finished trial.")],
    study: StudyName = None,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> None:
    """Show a trial and its architecture.

    What it scored, at every rung and when it was validated, what it cost, and the architecture as a tree: output
    shape, parameters and FLOPs of every node.
    """
    from rich.text import Text

    from nas_cntk.report import tables, text
    from nas_cntk.report.board import load_board

    board = load_board(db, study)
    row = board.row(trial)
    architecture = board.architecture(row.key)
    if as_json:
        document = row.to_dict()
        document["study"] = board.study.name
        document["architecture"] = None if architecture is None else json.loads(architecture.to_json())
        document["rungs"] = [
            {"subset": one.subset, "holdout": one.holdout, "scores": one.values} for one in board.rungs_of(row.key)
        ]
        document["validations"] = [one.to_dict() for one in board.validations_of(row.key)]
        print_json(document)
        return
    console = console_of()
    validated = board.validations_of(row.key)
    rungs = board.rungs_of(row.key)
    shown = tables.trial(row, architecture, board.image_shape, board.num_classes, console.width, validated, rungs)
    console.print(Text(f"study {board.study.name}", "bold"), soft_wrap=True)
    console.print(shown)
    following = ["leaderboard"]
    if any(one.accuracy is not None and one.recipe == "standard" for one in validated):
        following = ["export", str(trial), "--to", "model"]
    elif row.state == "COMPLETE":
        following = ["validate", str(trial)]
    print_next(console, text.command(*following, db=db, study=board.study.name))


def report(
    output: Annotated[
        str | None, typer.Option(metavar="FILE", help="File to write; nas-cntk-report-STUDY.html if not given.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, max=MOST_TRIALS, help="Architectures on the leaderboard.")] = 10,
    no_images: Annotated[
        bool, typer.Option("--no-images", help="Leave out the confusion matrix and wrongly classified images.")
    ] = False,
    max_seconds: Annotated[
        float, typer.Option(min=1e-6, max=LONGEST, help="Leave them out if computing them is predicted to take longer.")
    ] = 60.0,
    data: Annotated[str | None, typer.Option(help="Where the study's data are now, if they moved.")] = None,
    study: StudyName = None,
    db: Db = DEFAULT_DB,
) -> None:
    """Write a study as one HTML file.

    Leaderboard, history, importance of the parameters, proxy against validated accuracy, cost, Pareto front, the best
    architectures drawn, what the winner gets wrong, how to reproduce. The file needs no network and nothing beside it.
    """
    from nas_cntk.report import text
    from nas_cntk.report.html.report import Request, write_report

    console = console_of()

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    written = write_report(Request(db, study, output, top, not no_images, max_seconds, data), say)
    if written.left_out is not None and not no_images:
        say(f"note: without confusion matrix and images: {written.left_out}")
    say(f"wrote {written.file}: {-(-written.size // 1024):,} KiB, study {written.study}")
    if written.winner is None:
        verb = "resume" if written.finished < written.target else "leaderboard"
        print_next(console, text.command(verb, db=db, study=written.study))
    elif not written.validated:
        print_next(console, text.command("validate", db=db, study=written.study))
    else:
        model = () if written.winner.network else ("--kernel",)
        trial = str(written.winner.row.trial)
        print_next(console, text.command("export", trial, *model, "--to", "model", db=db, study=written.study))


def rows_of(board: Board, *, top: int | None, distinct: bool, pareto: bool, sort: str | None = None) -> list[Row]:
    from nas_cntk.report import columns
    from nas_cntk.report import rows as report

    rows = list(board.rows)
    if pareto:
        rows = report.pareto(rows, board.directions)
    if distinct:
        rows = report.distinct(rows)
    if sort is not None:
        rows = columns.ordered(rows, sort, board.directions)
    return rows[:top]


def selection(*, top: int | None, distinct: bool, pareto: bool) -> str:
    """Say which rows of all `rows_of` keeps."""
    kept = ["Pareto front"] if pareto else []
    kept += ["distinct"] if distinct else []
    kept += [f"top {top}"] if top is not None else []
    return ", ".join(kept)


def print_board(console: Console, board: Board, rows: list[Row], db: str, selection: str) -> None:
    from nas_cntk.report import tables, text
    from nas_cntk.report.ties import MARK, MEANING, tied

    name, finished, target = board.study.name, len(board.rows), board.study.target
    if rows:
        found = {row.key: board.architecture(row.key) for row in rows}
        architectures = {key: arch for key, arch in found.items() if key is not None and arch is not None}
        console.print()
        ties = tied(board.rows, board.directions)
        console.print(tables.leaderboard(rows, board.directions, architectures, console.width, ties))
        console.print()
        if any(row.trial in ties for row in rows):
            end = "\n\n" if board.validated else "\n"
            console.print(f"{MARK} {MEANING}: {len(ties)} of {finished} trials", markup=False, end=end)
    print_trust(console, board)
    for change in board.changes:
        if change["setting"] == "sampler":
            names = [str(change[when]["name"]) for when in ("before", "after")]  # type: ignore[index]
            what = f"became {names[1]}" if names[0] != names[1] else "got other settings"
            console.print(f"after {change['finished']} trials the sampler {names[0]} {what}", markup=False)
    if len(rows) < finished:
        console.print(f"shown: {len(rows)} of {finished} finished trials ({selection})", markup=False)
    console.print(f"study {name} in {db}: {finished} of {target} trials finished", markup=False)
    if finished < target:
        print_next(console, text.command("resume", db=db, study=name))
    elif rows:
        print_next(console, text.command("show", str(rows[0].trial), db=db, study=name))


def print_trust(console: Console, board: Board) -> None:
    if not board.validated:
        return
    from nas_cntk.report.trust import trust, trust_panel

    found = trust(board.rows, board.directions, board.validated)
    console.print(trust_panel(found, board.directions, console.width))
    console.print()
