"""`studies` and `clean`: what a database holds."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from nas_cntk.commands import completion
from nas_cntk.commands.options import Db, Json
from nas_cntk.commands.output import SETTINGS, console_of, print_json, print_next
from nas_cntk.errors import StudyError, UsageError
from nas_cntk.report.text import DEFAULT_DB

if TYPE_CHECKING:
    from nas_cntk.records.database import Records

app = typer.Typer(help="List, rename or delete studies.", epilog="Example: nas-cntk studies list", **SETTINGS)


@app.command("list", epilog="Example: nas-cntk studies list")
def studies_list(db: Db = DEFAULT_DB, as_json: Json = False) -> None:
    """List the studies of a database, the newest first."""
    from dataclasses import asdict

    from nas_cntk.records import studies
    from nas_cntk.records.migrations import open_records
    from nas_cntk.report import tables, text

    records = open_records(db, write=False)
    try:
        rows = studies.list_studies(records)
    finally:
        records.close()
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    console = console_of()
    if rows:
        console.print(tables.studies(rows, console.width))
        if any(row.running for row in rows):
            console.print("* being searched now", markup=False)
        print_next(console, text.command("leaderboard", db=db, study=rows[0].name))
    else:
        console.print(f"no study in {db}", markup=False)
        print_next(console, text.command("search", db=db))


@app.command("rename", epilog="Example: nas-cntk studies rename digits-plain-1 baseline")
def studies_rename(
    name: Annotated[str, typer.Argument(autocompletion=completion.studies, help="Study.")],
    to: Annotated[str, typer.Argument(help="Its new name.")],
    db: Db = DEFAULT_DB,
) -> None:
    """Rename a study."""
    from nas_cntk.records import studies
    from nas_cntk.report import text
    from nas_cntk.validate import artifacts

    records = _existing(db)
    try:
        studies.find_study(records, name)
        with artifacts.changing(db, name):
            studies.rename_study(records, name, to)
            artifacts.move_study(db, name, to)
    finally:
        records.close()
    console = console_of()
    console.print(f"renamed {name} to {to} in {db}", markup=False, highlight=False)
    print_next(console, text.command("leaderboard", db=db, study=to))


@app.command("delete", epilog="Example: nas-cntk studies delete digits-plain-1 --yes")
def studies_delete(
    name: Annotated[str, typer.Argument(autocompletion=completion.studies, help="Study.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    db: Db = DEFAULT_DB,
) -> None:
    """Delete a study with all its trials and scores, for good."""
    from nas_cntk.records import studies
    from nas_cntk.report import text
    from nas_cntk.validate import artifacts

    records = _existing(db)
    try:
        study = studies.find_study(records, name)
        if not yes:
            if not sys.stdin.isatty():
                raise UsageError(f"deleting {name!r} cannot be undone: add --yes")
            if not typer.confirm(f"Delete study {study.name} for good?"):
                raise StudyError(f"study {name!r} was not deleted")
        with artifacts.changing(db, name):
            trials = studies.delete_study(records, name)
            artifacts.delete_study(db, name)
    finally:
        records.close()
    console = console_of()
    console.print(f"deleted {name} ({trials} trials) from {db}", markup=False, highlight=False)
    print_next(console, text.command("clean", "--dry-run", db=db))


@app.command("config", epilog="Example: nas-cntk studies config digits-plain-1 > nas.toml")
def studies_config(
    study: Annotated[
        str | None, typer.Argument(autocompletion=completion.studies, help="Study; the newest if not given.")
    ] = None,
    db: Db = DEFAULT_DB,
) -> None:
    """Print the options of a study as TOML that search --config takes.

    Each comes with where it is from: default, flag, the name of a file, or a later run that changed it. Paths are
    absolute.
    """
    from nas_cntk.config.effective import toml_lines
    from nas_cntk.config.of_study import entries_of_study
    from nas_cntk.records import studies
    from nas_cntk.records.migrations import open_records
    from nas_cntk.report import text

    records = open_records(db, write=False)
    try:
        found = studies.find_study(records, study)
        changes = studies.changes(records, found.study_id)
    finally:
        records.close()
    asked = found.config.get("asked")
    place = asked.get("config") if isinstance(asked, dict) else None
    print(text.clean(f"# study {found.name}, made {found.created}" + (f", from {place}" if place else "")))
    print("\n".join(toml_lines(entries_of_study(found, changes))))


def clean(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
    db: Db = DEFAULT_DB,
) -> None:
    """Remove what is no longer needed.

    That is what killed processes and deleted studies have left in a database.
    Finished trials and scores are never touched.
    """
    from nas_cntk.records import cleaning
    from nas_cntk.report import text

    records = _existing(db)
    try:
        waste = cleaning.find_waste(records)
        if waste and not dry_run:
            cleaning.remove_waste(records, waste)
    finally:
        records.close()
    console = console_of()
    verb = "would remove" if dry_run else "removed"
    for line in waste.lines():
        console.print(f"{verb} {line}", markup=False, highlight=False)
    if not waste:
        console.print(f"nothing to remove in {db}", markup=False, highlight=False)
    print_next(console, text.command("clean", db=db) if dry_run and waste else text.command("studies", "list", db=db))


def _existing(db: str) -> Records:
    from nas_cntk.records.migrations import open_records

    open_records(db, write=False).close()  # a missing database is an error, and not made
    return open_records(db, write=True)
