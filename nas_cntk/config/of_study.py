"""The options of a study, as they are in effect now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas_cntk.config.effective import Entry
    from nas_cntk.records.studies import Study

_OF_THE_PROBLEM = ("data", "image-size", "space", "subset", "holdout", "score", "seed", "ridge", "dtype")
_SWITCHES = ("download", "skip-bad")
# A study keeps those of the run that made it.
_OF_ONE_RUN = ("start-from", "start-trials", "timeout", "workers", "devices")


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
