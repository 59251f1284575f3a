"""`db`: studies between databases."""

from __future__ import annotations

from typing import Annotated

import typer

from nas_cntk.commands import completion
from nas_cntk.commands.options import without_password
from nas_cntk.commands.output import SETTINGS, console_of, print_next

app = typer.Typer(
    help="Move studies between databases.",
    epilog="Example: nas-cntk db copy runs/nas.db postgresql://me@server/studies",
    **SETTINGS,
)


@app.callback()
def _database() -> None:
    """Move studies between databases."""


@app.command("copy", epilog="Example: nas-cntk db copy runs/nas.db postgresql://me@server/studies")
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", callback=without_password, help="Database: a path or URL.")],
    target: Annotated[str, typer.Argument(metavar="TO", callback=without_password, help="Database: a path or URL.")],
    study: Annotated[
        list[str] | None,
        typer.Option(autocompletion=completion.studies, help="A study; may be repeated; all if not given."),
    ] = None,
) -> None:
    """Copy studies to another database, and compare them there.

    With their trials, scores and validations, and the weights that lie beside the database. The originals stay.
    """
    from nas_cntk.records import studies
    from nas_cntk.records.migrations import open_records
    from nas_cntk.report import text
    from nas_cntk.search.copying import copy_studies

    console = console_of()
    reader = open_records(source, write=False)
    try:
        names = study or [row.name for row in reversed(studies.list_studies(reader))]
    finally:
        reader.close()
    for copied in copy_studies(source, target, names):
        console.print(
            f"copied {copied.study}: {copied.trials} trials, {copied.rows} rows of ours, equal on both sides",
            markup=False,
            soft_wrap=True,
        )
    if not names:
        console.print(f"no study in {source}", markup=False, soft_wrap=True)
    print_next(console, text.command("studies", "list", db=target))
