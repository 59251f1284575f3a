"""What `nas-cntk benchmark` measured: one row a subject and part, never computed again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from nas_cntk.records.database import Records
from nas_cntk.records.tables import BENCHMARK_SCORES


@dataclass(frozen=True, slots=True)
class Measurement:
    """Scores of one subject that were computed together; NaN where one is not defined."""

    values: Mapping[str, float]
    seconds: float


def measurements(records: Records, benchmark: str) -> dict[str, Measurement]:
    """Return everything that a benchmark measured, by the hash of its settings."""
    columns = BENCHMARK_SCORES.c
    query = sa.select(columns.settings, columns.result, columns.seconds).where(columns.benchmark == benchmark)
    with records.transaction() as connection:
        return {
            settings: Measurement({n: math.nan if v is None else v for n, v in json.loads(result).items()}, seconds)
            for settings, result, seconds in connection.execute(query)
        }


def record(records: Records, settings: str, benchmark: str, subject: str, part: str, found: Measurement) -> None:
    """Write a measurement, in the place of an equal one that another process wrote meanwhile."""
    values = {name: value if math.isfinite(value) else None for name, value in found.values.items()}
    with records.transaction() as connection:
        connection.execute(BENCHMARK_SCORES.delete().where(BENCHMARK_SCORES.c.settings == settings))
        connection.execute(
            BENCHMARK_SCORES.insert().values(
                settings=settings,
                benchmark=benchmark,
                subject=subject,
                part=part,
                seconds=found.seconds,
                finished=datetime.now(UTC).isoformat(timespec="microseconds"),
                result=json.dumps(values, allow_nan=False),
            )
        )
