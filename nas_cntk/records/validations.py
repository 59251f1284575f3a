"""What validation found: one row an architecture and kind, and the points of a grid under way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import sqlalchemy as sa

from nas_cntk.records.database import Records
from nas_cntk.records.tables import POINTS, STUDIES, VALIDATIONS

KINDS = ("cnn", "kernel")
RECIPES = ("standard", "paper")


@dataclass(frozen=True, slots=True)
class Validation:
    """An architecture of a study, tested on the test set as a trained CNN or as the full-dataset kernel.

    `accuracy` and `stderr` are None where every training diverged: that is an outcome, and recorded as one.
    """

    study_id: int
    key: str
    number: int  # of the trial that was asked for
    kind: str  # cnn | kernel
    recipe: str | None  # standard | paper; None for a kernel
    accuracy: float | None  # on the test images, in [0, 1]
    stderr: float | None  # binomial
    train_images: int
    test_images: int
    seconds: float
    details: Mapping[str, object] = field(default_factory=dict)  # grid, chosen, best_on_test, epochs, residual, ...
    finished: str = ""  # set when it is recorded

    def setting(self, name: str) -> object:
        """Return what was asked of a training: epochs, width, flips or crops; None where it is not recorded."""
        schedule = self.details.get("schedule")  # the epochs of the details themselves may have been fewer
        if isinstance(schedule, Mapping) and name in schedule:
            return schedule[name]
        return self.details.get(name)

    def to_dict(self) -> dict[str, object]:
        """Return everything but the study, ready for JSON."""
        return {
            "trial": self.number,
            "key": self.key,
            "kind": self.kind,
            "recipe": self.recipe,
            "accuracy": self.accuracy,
            "stderr": self.stderr,
            "train_images": self.train_images,
            "test_images": self.test_images,
            "seconds": self.seconds,
            "finished": self.finished,
            "details": dict(self.details),
        }


def validations(records: Records, study_id: int) -> list[Validation]:
    """Return every validation of a study, in the order in which they were finished."""
    query = (
        VALIDATIONS.select()
        .where(VALIDATIONS.c.study_id == study_id)
        .order_by(VALIDATIONS.c.finished, VALIDATIONS.c.number, VALIDATIONS.c.kind, VALIDATIONS.c.recipe)
    )
    with records.transaction() as connection:
        return [_validation(row) for row in connection.execute(query).mappings()]


def find_validation(records: Records, study_id: int, key: str, kind: str, recipe: str | None) -> Validation | None:
    """Return a recorded validation, if there is one."""
    with records.transaction() as connection:
        row = connection.execute(VALIDATIONS.select().where(_same(study_id, key, kind, recipe))).mappings().first()
    return None if row is None else _validation(row)


def record_validation(records: Records, found: Validation) -> None:
    """Write a validation, in the place of an earlier one; the points of its grid are in its details and go."""
    with records.transaction() as connection:
        if not _exists(connection, found.study_id):
            return
        connection.execute(VALIDATIONS.delete().where(_same(found.study_id, found.key, found.kind, found.recipe)))
        connection.execute(
            VALIDATIONS.insert().values(
                study_id=found.study_id,
                key=found.key,
                kind=found.kind,
                recipe=found.recipe or "",
                number=found.number,
                accuracy=found.accuracy,
                stderr=found.stderr,
                train_images=found.train_images,
                test_images=found.test_images,
                seconds=found.seconds,
                finished=datetime.now(UTC).isoformat(timespec="microseconds"),
                details=json.dumps(found.details, allow_nan=False),
            )
        )
        if found.kind == "cnn":
            connection.execute(POINTS.delete().where(_of(found.study_id, found.key, found.recipe or "")))


def find_point(records: Records, study_id: int, key: str, recipe: str, settings: str) -> dict[str, object] | None:
    """Return the result of a point of a grid that was trained before, with equal settings."""
    query = sa.select(POINTS.c.result).where(_of(study_id, key, recipe), POINTS.c.settings == settings)
    with records.transaction() as connection:
        text = connection.execute(query).scalar()
    return None if text is None else dict(json.loads(text))


def record_point(
    records: Records, study_id: int, key: str, recipe: str, settings: str, result: Mapping[str, object]
) -> None:
    """Write the result of a point of a grid."""
    with records.transaction() as connection:
        if not _exists(connection, study_id):
            return
        connection.execute(POINTS.delete().where(_of(study_id, key, recipe), POINTS.c.settings == settings))
        connection.execute(
            POINTS.insert().values(
                study_id=study_id,
                key=key,
                recipe=recipe,
                settings=settings,
                result=json.dumps(result, allow_nan=False),
            )
        )


def forget_points(records: Records, study_id: int, key: str, recipe: str) -> None:
    """Drop the points of a grid that was not finished, so that all are trained again."""
    with records.transaction() as connection:
        connection.execute(POINTS.delete().where(_of(study_id, key, recipe)))


def _exists(connection: sa.Connection, study_id: int) -> bool:
    # A study deleted in the meantime must not come back in parts.
    return connection.execute(sa.select(STUDIES.c.study_id).where(STUDIES.c.study_id == study_id)).first() is not None


def _same(study_id: int, key: str, kind: str, recipe: str | None) -> sa.ColumnElement[bool]:
    table = VALIDATIONS.c
    return sa.and_(table.study_id == study_id, table.key == key, table.kind == kind, table.recipe == (recipe or ""))


def _of(study_id: int, key: str, recipe: str) -> sa.ColumnElement[bool]:
    return sa.and_(POINTS.c.study_id == study_id, POINTS.c.key == key, POINTS.c.recipe == recipe)


def _validation(row: sa.RowMapping) -> Validation:
    return Validation(
        study_id=row["study_id"],
        key=row["key"],
        number=row["number"],
        kind=row["kind"],
        recipe=row["recipe"] or None,
        accuracy=row["accuracy"],
        stderr=row["stderr"],
        train_images=row["train_images"],
        test_images=row["test_images"],
        seconds=row["seconds"],
        details=json.loads(row["details"]),
        finished=row["finished"],
    )
