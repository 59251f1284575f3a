"""A PostgreSQL server of the tests' own, if the machine has the programs: in a temporary folder, on a socket there."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_USER = "nas_cntk"


def programs() -> Path | None:
    """Return the folder of initdb and postgres, the newest, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    known = shutil.which("initdb")
    return None if known is None else Path(known).resolve().parent


def reason() -> str | None:
    """Return why there can be no server, or None."""
    if programs() is None:
        return "no PostgreSQL server on this machine (Debian: apt install postgresql)"
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg is not installed (the extra postgresql)"
    if os.geteuid() == 0 and _owner() is None:
        return "a server does not run as root, and there is no user postgres"
    return None


def _owner() -> str | None:
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return None


@contextmanager
def server() -> Iterator[str]:
    """Run a server; yields the beginning of its URLs, which a database's name and `?host=...` complete, as a format."""
    where = programs()
    assert where is not None and reason() is None
    owner = _owner()
    folder = Path(tempfile.mkdtemp(prefix="nas-cntk-pg-"))
    how: dict[str, str] = {}
    if os.geteuid() == 0:
        assert owner is not None
        shutil.chown(folder, owner)
        how = {"user": owner, "group": pwd.getpwnam(owner).pw_name}

    def run(program: str, *arguments: str) -> None:
        command = [str(where / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=folder, timeout=120, **how)  # type: ignore[call-overload]

    try:
        run("initdb", "-D", "data", "-U", _USER, "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off -c max_connections=200"
        run("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://{_USER}@/{{name}}?host={folder}"
        finally:
            run("pg_ctl", "-D", "data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
