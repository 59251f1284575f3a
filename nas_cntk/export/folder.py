"""The folder that an export writes: whole or not at all, and never over somebody else's files."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from nas_cntk.errors import ModelError
from nas_cntk.export.manifest import FILE, FORMAT, OURS, VERSION

UNFINISHED = "unfinished.json"


def check_target(folder: Path, force: bool) -> None:
    """Refuse a folder that an export would spoil, before anything is computed.

    Raises:
        ModelError: if it is a file, or holds anything; with `force`, if it holds anything but an earlier export.
    """
    if "\0" in str(folder):
        raise ModelError(f"{str(folder)!r} is no name of a folder; give another --to")
    try:
        if not folder.exists() and not folder.is_symlink():
            _check_parent(folder)
            return
        if not folder.is_dir():
            raise ModelError(f"{folder} is a file; give --to another name")
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise ModelError(f"{folder} cannot be written: {error.strerror}; give another --to") from None
    if not names:
        return
    if not force:
        raise ModelError(f"{folder} is not empty; give another --to, or replace the model in it with --force")
    if FILE not in names or not _is_ours(folder / FILE):
        raise ModelError(f"{folder} holds files that are no exported model; --force replaces none but those, give --to")


def _is_ours(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return FORMAT.encode() in file.read(200)  # damaged ones may be replaced too
    except OSError:
        return False


def _check_parent(folder: Path) -> None:
    there = next(parent for parent in folder.absolute().parents if parent.exists())
    if not there.is_dir():
        raise ModelError(f"{folder} cannot be written: {there} is a file; give another --to")
    if not os.access(there, os.W_OK):
        raise ModelError(f"{folder} cannot be written: {there} is read-only; give another --to")


def write_folder(folder: Path, files: Mapping[str, bytes], force: bool) -> None:
    """Write the files of a model; those of an earlier one in the same folder go, whatever else is there stays.

    A new folder appears whole. One that is written over is no model, its model.json says so, until it is complete.

    Raises:
        ModelError: as `check_target`, and if the disk refuses.
    """
    check_target(folder, force)
    assert set(files) <= set(OURS) and FILE in files
    staged: Path | None = None
    try:
        folder = folder.absolute()
        folder.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f".{folder.name[:80]}.", dir=folder.parent))
        os.chmod(staged, 0o777 & ~_umask())
        for name, content in files.items():
            with (staged / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        if folder.is_dir():
            # model.json is the first to go, and the last to come. What stands for it says that this is an export.
            (staged / UNFINISHED).write_text(json.dumps({"format": FORMAT, "version": VERSION, "kind": "unfinished"}))
            os.replace(staged / UNFINISHED, folder / FILE)
            for name in set(OURS) - {FILE}:
                (folder / name).unlink(missing_ok=True)
            for name in sorted(files, key=lambda name: name == FILE):
                os.replace(staged / name, folder / name)
        else:
            os.replace(staged, folder)
    except OSError as error:
        raise ModelError(f"{folder} cannot be written: {error.strerror or error}; give another --to") from None
    finally:
        if staged is not None:
            with contextlib.suppress(OSError):
                shutil.rmtree(staged, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
