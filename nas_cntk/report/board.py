"""A study as it is read back: its rows in order, and the architectures they name."""

from __future__ import annotations

from dataclasses import dataclass

from nas_cntk.architecture import Architecture
from nas_cntk.errors import StudyError
from nas_cntk.records import studies, trials, validations
from nas_cntk.records.migrations import open_records
from nas_cntk.records.studies import Study
from nas_cntk.records.trials import Score
from nas_cntk.records.validations import Validation
from nas_cntk.report.rows import Row, directions_of, order, row_of


@dataclass(frozen=True, slots=True)
class Board:
    """A study with its finished trials, best first."""

    study: Study
    rows: tuple[Row, ...]
    directions: dict[str, str]
    architectures: dict[str, str]  # key -> JSON
    changes: tuple[dict[str, object], ...]
    validated: tuple[Validation, ...]
    rungs: tuple[Score, ...] = ()  # every score on a part of the subset or the whole, by subset

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(h, w, c) of the study's images."""
        shape = self.study.config["image_shape"]
        assert isinstance(shape, list)
        return shape[0], shape[1], shape[2]

    @property
    def num_classes(self) -> int:
        """The classes of the study's images."""
        classes = self.study.config["num_classes"]
        assert isinstance(classes, int)
        return classes

    def architecture(self, key: str | None) -> Architecture | None:
        """Return the architecture of a key, if there is one."""
        text = None if key is None else self.architectures.get(key)
        return None if text is None else Architecture.from_json(text)

    def validations_of(self, key: str | None) -> list[Validation]:
        """Return every validation of an architecture."""
        return [one for one in self.validated if one.key == key]

    def rungs_of(self, key: str | None) -> list[Score]:
        """Return what an architecture scored at each rung, the whole subset last."""
        return [one for one in self.rungs if one.key == key]

    def row(self, number: int) -> Row:
        """Return the row of a trial.

        Raises:
            StudyError: if the study has no finished trial of that number.
        """
        for row in self.rows:
            if row.trial == number:
                return row
        known = f"it has {len(self.rows)} finished trials, see `nas-cntk leaderboard`" if self.rows else "it has none"
        raise StudyError(f"study {self.study.name!r} has no finished trial {number}; {known}")


def load_board(db: str, name: str | None) -> Board:
    """Return the study called `name`, the newest if None.

    Raises:
        RecordsError: if the database cannot be read.
        StudyError: if there is no such study.
    """
    records = open_records(db, write=False)
    try:
        study = studies.find_study(records, name)
        finished = trials.finished_trials(records, study.study_id)
        changes = studies.changes(records, study.study_id)
        validated = validations.validations(records, study.study_id)
        rungs = trials.scores(records, study.study_id)
    finally:
        records.close()
    directions = directions_of(study)
    rows = order([row_of(trial, validated) for trial in finished], directions)
    found = {
        t.verdict.key: t.architecture for t in finished if t.verdict.key is not None and t.architecture is not None
    }
    return Board(study, tuple(rows), directions, found, tuple(changes), tuple(validated), tuple(rungs))
