"""Where results go: the folder of the database, its disk, and the database itself."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from nas_cntk.doctor.check import OK, PROBLEM, WARNING, Check, size
from nas_cntk.records.database import locate
from nas_cntk.records.health import examine
from nas_cntk.report import text

LEAST = 50 << 20  # bytes below which not even a study is safe
ROOMY = 1 << 30  # bytes below which the tiles of a full kernel may not fit
WRITTEN = 64 << 10  # bytes that are written to try the disk
REMOTE = ("nfs", "cifs", "smb", "fuse.sshfs", "9p", "afs", "ceph", "lustre", "beegfs", "glusterfs")


def disk(db: str, mounts: Path = Path("/proc/self/mounts")) -> Check:
    """Return whether the disk of the database, and of the tiles and weights beside it, can be written."""
    folder = existing_folder(locate(db).path.parent)
    if not folder.is_dir():
        return Check("disk", PROBLEM, f"{folder} is no folder", "name another database with --db")
    free = shutil.disk_usage(folder).free
    found = f"{size(free)} free in {folder}"
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".nas-cntk-doctor-") as file:
            file.write(os.urandom(WRITTEN))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        words = f"{found}, but nothing can be written: {error.strerror or error}"
        if free < WRITTEN:
            return Check("disk", PROBLEM, words, "free some space, or name a database on another disk with --db")
        return Check("disk", PROBLEM, words, "change the folder's permissions, or name another database with --db")
    if free < LEAST:
        return Check("disk", PROBLEM, found, "free some space, or name a database on another disk with --db")
    if free < ROOMY:
        remedy = "free some space before validate: tiles of a full kernel take 8 bytes a pair of training images"
        return Check("disk", WARNING, found, remedy)
    kind = _file_system(folder, mounts)
    if kind is not None and kind.startswith(REMOTE):
        found += f", a network file system ({kind})"
        return Check("disk", WARNING, found, "let one machine at a time use the database, or keep it on a local disk")
    return Check("disk", OK, found)


def database(db: str) -> Check:
    """Return the health of the database; none yet is fine."""
    health = examine(db)
    where = health.where
    if not health.version:
        what = "no database yet" if not health.size else "no study yet"
        if not health.writable:
            return _read_only(f"{what} at {where}, which cannot be written")
        return Check("database", OK, f"{what} at {where}; search makes it")
    found = f"{where}: whole, {size(health.size)}, {_count(health.studies, 'study', 'studies')}"
    found += f", {health.running} being searched now" if health.running else ""
    if health.version < health.newest:
        found += f", schema {health.version} (the next command brings it to {health.newest})"
    else:
        found += f", schema {health.version}"
    return Check("database", OK, found) if health.writable else _read_only(f"{found}; it cannot be written")


def leases(db: str) -> Check:
    """Return what killed processes have left in the database."""
    health = examine(db)
    if not health.dead:
        return Check("leases", OK, "no trial of a killed process")
    study, number = health.dead[0]
    more = f" and {len(health.dead) - 1} more" if len(health.dead) > 1 else ""
    found = f"the process of trial {number} of {study}{more} was killed; nothing finished is lost"
    remedy = f"{text.command('resume', db=db, study=study)} takes it up again, {text.command('clean', db=db)} drops it"
    return Check("leases", WARNING, found, remedy)


def existing_folder(folder: Path) -> Path:
    """Return the folder, or what exists above it: that is where it would be made."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _read_only(found: str) -> Check:
    remedy = "change the permissions of the file and its folder, or name another database with --db"
    return Check("database", PROBLEM, found, remedy)


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _file_system(folder: Path, mounts: Path) -> str | None:
    """The kind of file system that holds a folder, where the system tells."""
    try:
        lines = [line.split() for line in mounts.read_text(errors="replace").splitlines()]
    except OSError:
        return None
    resolved = folder.resolve()
    best, kind = -1, None
    for fields in lines:
        if len(fields) < 3:
            continue
        point = Path(fields[1].replace("\\040", " "))
        if resolved.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[2]
    return kind
