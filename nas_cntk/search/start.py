"""A search that starts from what another study of its space has found, for example on smaller images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nas_cntk.errors import StudyError, UsageError
from nas_cntk.records import studies, trials
from nas_cntk.records.database import Records
from nas_cntk.report.rows import directions_of, named, order, ranking, row_of
from nas_cntk.search.spaces import Space

BEST = 5  # trials that are taken, if none is named


@dataclass(frozen=True, slots=True)
class Start:
    """Where a new study starts: proposals of another one, in this order, before any of its own."""

    study: str
    trials: tuple[int, ...]
    parameters: tuple[Mapping[str, Any], ...]

    def to_dict(self) -> dict[str, object]:
        """Return it as a study keeps it."""
        return {"study": self.study, "trials": list(self.trials), "parameters": list(map(dict, self.parameters))}


def points_of(config: Mapping[str, object]) -> Sequence[Mapping[str, Any]]:
    """Return the parameters of the first proposals of a study, from what it keeps."""
    kept = config.get("start")
    if not isinstance(kept, dict):
        return ()
    points: Sequence[Mapping[str, Any]] = kept["parameters"]
    return points


def parse_trials(text: str | None) -> tuple[int, ...]:
    """Return the numbers in a list separated by commas.

    Raises:
        UsageError: on anything but numbers of trials.
    """
    words = [] if text is None else [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words):
        raise UsageError(f"--start-trials must be numbers of trials, for example 3,7, got {text!r}")
    return tuple(dict.fromkeys(map(int, words)))


def start_from(records: Records, name: str, numbers: Sequence[int], space: Space) -> Start:
    """Return the start from trials of the study called `name`, its best distinct ones if none is named.

    Raises:
        StudyError: if there is no such study, it is of another space, or a trial is not there.
    """
    study = studies.find_study(records, name)
    if study.identity.get("space_source") != space.source_hash:
        raise StudyError(
            f"study {name!r} searched {study.identity.get('space')}, and this search {space.name} is another space (or"
            " its file has changed): parameters of one mean nothing in the other"
        )
    rows = order([row_of(trial) for trial in trials.finished_trials(records, study.study_id)], directions_of(study))
    chosen = (
        [named(study.name, rows, number, " to start from") for number in numbers] if numbers else ranking(rows)[:BEST]
    )
    if not chosen:
        raise StudyError(f"study {name!r} has no scored trial to start from")
    return Start(study.name, tuple(row.trial for row in chosen), tuple(row.parameters for row in chosen))
