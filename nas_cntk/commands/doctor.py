"""`doctor`: this machine and the database examined."""

from __future__ import annotations

import typer

from nas_cntk.commands.options import Db, Json
from nas_cntk.commands.output import console_of, print_json, print_next
from nas_cntk.report.text import DEFAULT_DB


def doctor(db: Db = DEFAULT_DB, as_json: Json = False) -> None:
    """Examine this machine and the database.

    Versions, processors, GPU, memory, disk, the database, and a short test of kernels: whether they are right, how
    fast they are, and what the default search would take. What is missing comes with what to do. Exits with 1 when
    something must be mended.
    """
    from nas_cntk.doctor import screen
    from nas_cntk.doctor.check import Check, is_ok
    from nas_cntk.doctor.examination import examine
    from nas_cntk.report import text

    console = console_of()
    checks: list[Check] = []
    for check in examine(db):
        checks.append(check)
        if not as_json:
            screen.show(console, check)
    if as_json:
        print_json({"ok": is_ok(checks), "checks": [check.to_dict() for check in checks]})
    else:
        console.print(screen.verdict(checks), markup=False, soft_wrap=True)
    if not is_ok(checks):
        raise typer.Exit(1)
    if not as_json:
        print_next(console, text.command("search", db=db))
