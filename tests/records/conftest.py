"""A database with one study in it, as the records see it: Optuna's tables made by Optuna."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nas_cntk.records import studies
from nas_cntk.records.database import Records
from nas_cntk.records.migrations import open_records
from nas_cntk.records.studies import Study
from nas_cntk.search.storage import open_storage


@pytest.fixture(params=["sqlite", "postgresql"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "nas.db")
    url: str = request.getfixturevalue("new_database")()
    return url


@pytest.fixture
def records(db: str) -> Iterator[Records]:
    opened = open_records(db, write=True)
    yield opened
    opened.close()


MakeStudy = Callable[..., Study]


@pytest.fixture
def make_study(records: Records) -> MakeStudy:
    def make(name: str = "one", running: int = 0) -> Study:
        import optuna

        storage = open_storage(records)
        made = optuna.create_study(study_name=name, storage=storage)
        for _ in range(running):
            made.ask().suggest_float("x", 0.0, 1.0)
        storage.engine.dispose()
        studies.insert_study(
            records,
            made._study_id,
            target=5,
            identity={"seed": 0, "score": ["holdout_accuracy"], "space": "plain"},
            config={"data": "digits", "image_shape": [8, 8, 1]},
            sampler={"name": "random"},
            versions={"python": "3"},
            space_source="def propose(): ...",
            rate=1e9,
            rate_backend="cpu",
        )
        return studies.find_study(records, name)

    return make
