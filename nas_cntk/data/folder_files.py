"""The image files of a folder: in class folders, or in class folders of ``train/`` and ``test/``."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from nas_cntk.data.sources import counted, first_few, show
from nas_cntk.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
OTHER_PARTS = ("test", "val", "valid", "validation")  # beside train/; only test/ is read


@dataclass(frozen=True, slots=True)
class File:
    """An image file, the class it belongs to, and whether it is a test image."""

    path: Path
    label: str
    test: bool


def list_files(root: Path) -> tuple[list[File], list[str]]:
    """Return all image files in a fixed order, and notes on what was passed over."""
    notes: list[str] = []
    passed: list[Path] = []
    names = [folder.name for folder in folders(root, root)]
    parts = [(root, False)]
    if "train" in names and set(names) <= {"train", *OTHER_PARTS} and folders(root / "train", root):
        parts = [(root / name, name == "test") for name in ("train", "test") if name in names]
        others = [name for name in names if name not in ("train", "test")]
        if others:
            notes.append(f"not read: {first_few(others)} (only train and test are)")

    files: list[File] = []
    for part, test in parts:
        for folder in folders(part, root):
            found = _images(folder, root, passed)
            if not found:
                notes.append(f"class folder without images left out: {folder.relative_to(root).as_posix()!r}")
            files += [File(path, _label(folder.name), test) for path in found]
    if passed:
        names = [path.relative_to(root).as_posix() for path in passed]
        what = counted(len(passed), "file that is no image", "files that are no images")
        notes.append(f"{what} left out ({first_few(names)})")
    return files, notes


def _label(name: str) -> str:
    """The class name: one spelling of each accented letter, and printable whatever the bytes were."""
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "replace"))


def visible(folder: Path, root: Path) -> list[Path]:
    """Return what a folder holds, sorted, without hidden names.

    Raises: DataError for a link that leads out of the root.
    """
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for path in entries:
        if path.is_symlink() and _leaves(path, root):
            raise DataError(f"{show(path)} is a link that leaves the folder: copy what it points to instead")
    return entries


def _leaves(link: Path, root: Path) -> bool:
    try:
        return not link.resolve().is_relative_to(root)
    except RuntimeError:  # before Python 3.13: a circle of links, which leads nowhere and is no file
        return False


def folders(folder: Path, root: Path) -> list[Path]:
    """Return the visible folders in a folder."""
    return [path for path in visible(folder, root) if path.is_dir()]


def _images(folder: Path, root: Path, passed: list[Path]) -> list[Path]:
    """The image files below a class folder; others are added to ``passed``."""
    found: list[Path] = []
    for path in visible(folder, root):
        if path.is_dir():
            # Links between folders could go round in circles, and would count images twice.
            if path.is_symlink():
                passed.append(path)
            else:
                found += _images(path, root, passed)
        elif path.suffix.lower() in SUFFIXES:
            found.append(path)
        else:
            passed.append(path)
    return found
