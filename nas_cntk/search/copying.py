"""Studies copied between databases, with the files that lie beside them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence

from nas_cntk.errors import RecordsError, UsageError
from nas_cntk.records.copying import Copied, copy_study
from nas_cntk.records.database import locate
from nas_cntk.records.migrations import open_records
from nas_cntk.search.storage import open_storage, optuna_errors
from nas_cntk.validate.artifacts import study_folder


def copy_studies(source: str, target: str, names: Sequence[str]) -> Iterator[Copied]:
    """Copy studies by name, yielding each when it is whole and compared.

    Raises:
        UsageError: if both are one database. StudyError, RecordsError: as `records.copying.copy_study`, and if files
            cannot be written.
    """
    if locate(source).url == locate(target).url:
        raise UsageError("both are the same database; name another one to copy to")
    open_records(source, write=False).close()  # a missing database is an error here, and not made
    reader, writer = open_records(source, write=True), open_records(target, write=True)
    try:
        storages = open_storage(reader), open_storage(writer)
        try:
            for name in names:
                with optuna_errors(writer):
                    copied = copy_study(reader, writer, storages, name)
                _copy_files(source, target, name)
                yield copied
        finally:
            for storage in storages:
                storage.engine.dispose()
    finally:
        reader.close()
        writer.close()


def _copy_files(source: str, target: str, name: str) -> None:
    here, there = study_folder(source, name), study_folder(target, name)
    if here == there or not here.is_dir():
        return
    try:
        shutil.copytree(here, there, dirs_exist_ok=True)
    except (OSError, shutil.Error) as error:
        raise RecordsError(f"the files of study {name!r} cannot be copied to {there}: {error}") from None
