"""`nas-cntk studies config`: the options of a study as TOML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_cntk import completion
from nas_cntk.report.text import DEFAULT_DB

if TYPE_CHECKING:
    from nas_cntk.config.effective import Entry
    from nas_cntk.records.studies import Study

_OF_THE_PROBLEM = ("data", "image-size", "space", "subset", "holdout", "score", "seed", "ridge", "dtype")
_SWITCHES = ("download", "skip-bad")
_OF_ONE_RUN = ("timeout", "workers")  # a study keeps those of the run that made it


def studies_config(
    study: Annotated[
        str | None, typer.Argument(autocompletion=completion.studies, help="Study; the newest if not given.")
    ] = None,
    db: Annotated[str, typer.Option(help="Database: a path, or sqlite:///PATH.")] = DEFAULT_DB,
) -> None:
    """Print the options of a study as TOML that search --config takes.

    Each comes with where it is from: default, flag, the name of a file, or a later run that changed it. Paths are
    absolute.
    """
    from nas_cntk.config.effective import toml_lines
    from nas_cntk.records import studies
    from nas_cntk.records.migrations import open_records

    records = open_records(db, write=False)
    try:
        found = studies.find_study(records, study)
        changes = studies.changes(records, found.study_id)
    finally:
        records.close()
    asked = found.config.get("asked")
    place = asked.get("config") if isinstance(asked, dict) else None
    print(f"# study {found.name}, made {found.created}" + (f", from {place}" if place else ""))
    print("\n".join(toml_lines(entries_of_study(found, changes))))


def entries_of_study(study: Study, changes: list[dict[str, Any]]) -> list[Entry]:
    """Return the options that a search needs to do again what the study does now."""
    from nas_cntk.config.effective import Entry

    asked = study.config.get("asked")
    asked = asked if isinstance(asked, dict) else None  # studies of before there were files have none
    changed = {str(change["setting"]).replace("_", "-"): change["finished"] for change in changes}

    def origin(key: str) -> str:
        name = "sampler" if key == "sampler-setting" else key
        if name in changed:
            return f"changed after {changed[name]} trials"
        if asked is None:
            return "as stored"
        if key in asked["flags"]:
            return "flag"
        return Path(asked["config"]).name if key in asked["file"] else "default"

    values = _values(study, asked or {})
    return [
        Entry(key, value, "the images' own size" if value is None else origin(key))
        for key, value in values.items()
        if value is not None or key == "image-size"
    ]


def _values(study: Study, asked: Mapping[str, Any]) -> dict[str, object]:
    config = {key.replace("_", "-"): value for key, value in study.config.items()}
    values: dict[str, object] = {key: config.get(key) for key in _OF_THE_PROBLEM}
    values["trials"] = study.target
    settings = {key: value for key, value in study.sampler.items() if key != "name"}
    values |= {"sampler": study.sampler["name"], "sampler-setting": settings or None}
    values |= {key: config.get(key) for key in ("backend", "max-trial-seconds", "prune-level", "siblings", "batch")}
    given = {**asked.get("file", {}), **asked.get("flags", {})}
    values |= {key: given.get(key) for key in _OF_ONE_RUN}
    return values | {key: config.get(key) or None for key in _SWITCHES}
