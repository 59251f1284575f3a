"""What `nas-cntk paper` found: one row a finished cell, and the parts of cells under way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import sqlalchemy as sa

from nas_cntk.records.database import Records
from nas_cntk.records.tables import PAPER_CELLS, PAPER_PARTS


@dataclass(frozen=True, slots=True)
class PaperCell:
    """A finished cell of a table or plot of the paper.

    `accuracy` and `stderr` are None where the cell measures a distance, or where every training diverged.
    """

    settings: str  # hash of everything that the value depends on
    experiment: str  # table1 | table2 | theorem1 | theorem2 | gp
    column: str
    depth: int
    accuracy: float | None  # in [0, 1]
    stderr: float | None  # binomial
    train: int
    test: int
    seconds: float
    details: Mapping[str, object] = field(default_factory=dict)
    finished: str = ""  # set when it is recorded


def find_cell(records: Records, settings: str) -> PaperCell | None:
    """Return a finished cell, if there is one of these settings."""
    with records.transaction() as connection:
        row = connection.execute(PAPER_CELLS.select().where(PAPER_CELLS.c.settings == settings)).mappings().first()
    return None if row is None else _cell(row)


def cells(records: Records) -> list[PaperCell]:
    """Return every finished cell, in the order in which they were finished."""
    query = PAPER_CELLS.select().order_by(PAPER_CELLS.c.finished, PAPER_CELLS.c.settings)
    with records.transaction() as connection:
        return [_cell(row) for row in connection.execute(query).mappings()]


def record_cell(records: Records, found: PaperCell) -> None:
    """Write a cell, in the place of an earlier one; its parts are in its details and go."""
    with records.transaction() as connection:
        connection.execute(PAPER_CELLS.delete().where(PAPER_CELLS.c.settings == found.settings))
        connection.execute(
            PAPER_CELLS.insert().values(
                settings=found.settings,
                experiment=found.experiment,
                column_name=found.column,
                depth=found.depth,
                accuracy=found.accuracy,
                stderr=found.stderr,
                train_images=found.train,
                test_images=found.test,
                seconds=found.seconds,
                finished=datetime.now(UTC).isoformat(timespec="microseconds"),
                details=json.dumps(found.details, allow_nan=False),
            )
        )
        connection.execute(PAPER_PARTS.delete().where(PAPER_PARTS.c.settings == found.settings))


def find_part(records: Records, settings: str, part: str) -> dict[str, object] | None:
    """Return the result of a draw, seed or grid point of a cell under way."""
    query = sa.select(PAPER_PARTS.c.result).where(PAPER_PARTS.c.settings == settings, PAPER_PARTS.c.part == part)
    with records.transaction() as connection:
        text = connection.execute(query).scalar()
    return None if text is None else dict(json.loads(text))


def count_parts(records: Records, settings: str) -> int:
    """Return how many parts of a cell under way are recorded."""
    query = sa.select(sa.func.count()).select_from(PAPER_PARTS).where(PAPER_PARTS.c.settings == settings)
    with records.transaction() as connection:
        return int(connection.execute(query).scalar() or 0)


def record_part(records: Records, settings: str, part: str, result: Mapping[str, object]) -> None:
    """Write the result of a draw, seed or grid point."""
    with records.transaction() as connection:
        same = sa.and_(PAPER_PARTS.c.settings == settings, PAPER_PARTS.c.part == part)
        connection.execute(PAPER_PARTS.delete().where(same))
        text = json.dumps(result, allow_nan=False)
        connection.execute(PAPER_PARTS.insert().values(settings=settings, part=part, result=text))


def _cell(row: sa.RowMapping) -> PaperCell:
    return PaperCell(
        settings=row["settings"],
        experiment=row["experiment"],
        column=row["column_name"],
        depth=row["depth"],
        accuracy=row["accuracy"],
        stderr=row["stderr"],
        train=row["train_images"],
        test=row["test_images"],
        seconds=row["seconds"],
        details=json.loads(row["details"]),
        finished=row["finished"],
    )
