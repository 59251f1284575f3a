"""What a shell offers after an option: names, found without importing anything heavy."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import typer

from nas_cntk.report.text import DEFAULT_DB

Offer = Iterator[str] | Iterator[tuple[str, str]]

_BUSY_SECONDS = 0.2  # a shell that waits for a database feels broken


def spaces(incomplete: str) -> Offer:
    """Offer the shipped search spaces; a shell offers files where none begins so."""
    from nas_cntk.search.spaces import shipped_spaces

    return (name for name in shipped_spaces() if name.startswith(incomplete))


def scores(incomplete: str) -> Offer:
    """Offer scores, after a comma too."""
    from nas_cntk.scores.kinds import SCORES

    before, comma, last = incomplete.rpartition(",")
    named = before.split(",")
    offered = (kind for name, kind in SCORES.items() if name.startswith(last) and name not in named)
    return ((f"{before}{comma}{kind.name}", kind.summary) for kind in offered)


def samplers(incomplete: str) -> Offer:
    """Offer samplers."""
    from nas_cntk.search.samplers import SAMPLERS

    return (name for name in SAMPLERS if name.startswith(incomplete))


def sampler_settings(ctx: typer.Context, incomplete: str) -> Offer:
    """Offer settings as NAME=DEFAULT, those of --sampler if that is given."""
    from nas_cntk.search.samplers import SAMPLERS

    chosen = SAMPLERS.get(ctx.params.get("sampler") or "")
    for kind in (chosen,) if chosen is not None else SAMPLERS.values():
        for name, default in kind.settings.items():
            if name.startswith(incomplete):
                yield f"{name}={str(default).lower()}", f"of {kind.name}"


def data_kinds(incomplete: str) -> Offer:
    """Offer the kinds of data; what follows the colon is a path."""
    from nas_cntk.data import READERS

    offered = (name if name == "digits" else f"{name}:" for name in READERS)
    return (name for name in offered if name.startswith(incomplete))


def backends(incomplete: str) -> Offer:
    """Offer kernel backends."""
    return (name for name in ("auto", "cpu", "cuda", "reference") if name.startswith(incomplete))


def dtypes(incomplete: str) -> Offer:
    """Offer the arithmetic of kernels."""
    return (name for name in ("float32", "float64") if name.startswith(incomplete))


def studies(ctx: typer.Context, incomplete: str) -> Offer:
    """Offer the studies of the database of --db, the newest first; none if it cannot be read at once."""
    # Read with the standard library: the records' own way in imports SQLAlchemy, half a second that a shell would feel.
    db = str(ctx.params.get("db") or DEFAULT_DB).removeprefix("sqlite:///")
    query = (
        "SELECT study_name FROM studies JOIN ncntk_studies USING (study_id)"
        " ORDER BY ncntk_studies.created DESC, study_id DESC"
    )
    try:
        uri = f"{Path(db).expanduser().absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)) as connection:
            names = [str(row[0]) for row in connection.execute(query)]
    except (sqlite3.Error, OSError, ValueError, RuntimeError):
        return iter(())
    return (name for name in names if name.startswith(incomplete))
