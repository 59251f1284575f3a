"""Optuna's storage in the same database as our records, with the same transactions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nas_cntk.errors import NasCntkError, RecordsError
from nas_cntk.records.database import Records, install_events, one_line, plain_errors

if TYPE_CHECKING:
    import optuna

_ATTEMPTS = 5  # to make Optuna's tables, which two processes may both be doing
_MADE_TWICE = ("already exists", "UNIQUE constraint failed", "duplicate key")  # tables, and the rows of their versions


def open_storage(records: Records) -> optuna.storages.RDBStorage:
    """Return Optuna's storage on the file of `records`.

    Raises:
        RecordsError: if Optuna refuses the file, as it does when its tables are of another version.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with optuna_errors(records):
        for attempt in range(_ATTEMPTS):
            try:
                location = records.location
                storage = optuna.storages.RDBStorage(location.url, engine_kwargs=location.engine_arguments())
                break
            except Exception as error:
                if attempt == _ATTEMPTS - 1 or not any(words in str(error) for words in _MADE_TWICE):
                    raise
                time.sleep(0.2 * (attempt + 1))
        install_events(storage.engine)
        # Connections made before the events would begin their transactions in the old way.
        storage.engine.dispose()
        return storage


@contextmanager
def optuna_errors(records: Records) -> Iterator[None]:
    """Turn what Optuna's storage raises into one line."""
    try:
        with plain_errors(records.location):
            yield
    except NasCntkError:
        raise
    except RuntimeError as error:
        if "table schema" not in str(error):
            raise
        raise RecordsError(
            f"database {records.location} was written by another version of Optuna: {one_line(error)}"
        ) from None
