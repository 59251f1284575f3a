"""The folder of a model: whole or not there, and nobody else's files are lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nas_cntk.errors import ModelError
from nas_cntk.export.folder import check_target, write_folder
from nas_cntk.export.manifest import read_manifest

FILES = {"model.json": b'{"format": "nas-cntk model"}', "README.md": b"hello", "model.py": b"pass"}

NEW = b'{"format": "nas-cntk model", "version": 1}'


def held(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_new_folder_and_an_empty_one(tmp_path: Path) -> None:
    for folder in (tmp_path / "deep" / "new", tmp_path / "empty"):
        if folder.name == "empty":
            folder.mkdir()
        write_folder(folder, FILES, force=False)
        assert held(folder) == FILES
        assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []
    assert (tmp_path / "deep" / "new").stat().st_mode & 0o777 == (tmp_path / "empty").stat().st_mode & 0o777


def test_what_is_there_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "model", FILES, force=False)
    with pytest.raises(ModelError, match="is not empty; give another --to, or replace the model in it with --force"):
        check_target(tmp_path / "model", force=False)
    for name in ("README.md", "model.json"):  # the second may be that of another program
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / "photos" / name).write_text("mine")
        with pytest.raises(ModelError, match="holds files that are no exported model"):
            write_folder(tmp_path / "photos", FILES, force=True)
    assert held(tmp_path / "photos") == {"README.md": b"mine", "model.json": b"mine"}
    (tmp_path / "file").write_text("")
    for name in ("file", "file/below"):
        with pytest.raises(ModelError, match="is a file|cannot be written"):
            write_folder(tmp_path / name, FILES, force=True)
    with pytest.raises(ModelError, match="is no name of a folder"):
        check_target(Path("a\0b"), force=False)


def test_force_replaces_our_files_and_keeps_others(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_folder(folder, {**FILES, "weights.safetensors": b"old"}, force=False)
    (folder / "notes.txt").write_text("mine")
    write_folder(folder, {"model.json": NEW, "kernel.safetensors": b"k"}, force=True)
    assert held(folder) == {"model.json": NEW, "kernel.safetensors": b"k", "notes.txt": b"mine"}


def test_a_disk_that_fails_leaves_no_half_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = os.replace, []

    def replace(old: Path, new: Path) -> None:
        calls.append(new)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        real(old, new)

    folder = tmp_path / "model"
    write_folder(folder, FILES, force=False)
    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(ModelError, match="cannot be written: No space left on device"):
        write_folder(folder, FILES, force=True)
    with pytest.raises(ModelError, match="is damaged.*'unfinished'"):  # no model, and not taken for one
        read_manifest(folder)
    monkeypatch.setattr(os, "replace", real)
    write_folder(folder, FILES, force=True)  # but it can be written over again
    assert held(folder) == FILES
    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(ModelError, match="cannot be written"):
        write_folder(tmp_path / "other", FILES, force=False)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
