"""Where artifacts are, and that they are nobody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas_cntk.files import write_file
from nas_cntk.validate import artifacts
from nas_cntk.validate.artifacts import delete_study, move_study, study_folder, weights_path


def test_two_databases_of_one_folder_share_nothing(tmp_path: Path) -> None:
    paths = [weights_path(str(tmp_path / name), "digits-plain-1", "k", "standard") for name in ("nas.db", "other.db")]
    for path in paths:
        write_file(path, lambda file: file.write(b"weights"))
    assert paths[0] == tmp_path / "nas-artifacts" / "digits-plain-1" / "k-standard.safetensors"
    delete_study(str(tmp_path / "other.db"), "digits-plain-1")
    assert [path.exists() for path in paths] == [True, False]


def test_a_renamed_study_replaces_what_a_deleted_one_left(tmp_path: Path) -> None:
    db = str(tmp_path / "nas.db")
    for study in ("old", "new"):
        write_file(study_folder(db, study) / study, lambda file: file.write(b""))
    move_study(db, "old", "new")
    assert [path.name for path in study_folder(db, "new").iterdir()] == ["old"]
    assert not study_folder(db, "old").exists()


def test_a_new_name_that_the_disk_takes_for_the_old_one_deletes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a disk where case makes no difference: two paths that are not equal, of one folder.
    folders = {"foo": tmp_path / "foo", "Foo": tmp_path / "foo" / ".." / "foo"}
    monkeypatch.setattr(artifacts, "study_folder", lambda _db, study: folders[study])
    write_file(folders["foo"] / "weights", lambda file: file.write(b"weights"))
    move_study("nas.db", "foo", "Foo")
    assert (folders["Foo"] / "weights").read_bytes() == b"weights"
