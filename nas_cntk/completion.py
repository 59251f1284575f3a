"""What a shell completes beside options: spaces, scores, samplers, studies."""

from __future__ import annotations

import typer


def spaces(incomplete: str) -> list[str]:
    """Return the shipped spaces that begin so."""
    from nas_cntk.search.spaces import shipped_spaces

    return [name for name in shipped_spaces() if name.startswith(incomplete)]


def scores(incomplete: str) -> list[str]:
    """Return the scores with which a comma list that begins so goes on."""
    from nas_cntk.scores import SCORES

    done, comma, last = incomplete.rpartition(",")
    return [f"{done}{comma}{name}" for name in SCORES if name.startswith(last) and name not in done.split(",")]


def samplers(incomplete: str) -> list[str]:
    """Return the samplers that begin so."""
    from nas_cntk.search.samplers import SAMPLERS

    return [name for name in SAMPLERS if name.startswith(incomplete)]


def studies(context: typer.Context, incomplete: str) -> list[str]:
    """Return the studies of the database that begin so; none where it cannot be read."""
    from nas_cntk.errors import NasCntkError
    from nas_cntk.records.migrations import open_records
    from nas_cntk.records.studies import list_studies
    from nas_cntk.report.text import DEFAULT_DB

    try:
        records = open_records(str(context.params.get("db") or DEFAULT_DB), write=False)
    except NasCntkError:
        return []
    try:
        return [study.name for study in list_studies(records) if study.name.startswith(incomplete)]
    finally:
        records.close()
