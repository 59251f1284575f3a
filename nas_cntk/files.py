"""Files that appear whole or not at all, whatever ends the process or fills the disk.

They are written to another name in the same folder, synchronised and renamed. A link stays, and what it leads to is
replaced; a pipe or a device is written to.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from nas_cntk.errors import RecordsError


@contextlib.contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """Give a file to write, which takes its place when the block ends without an error.

    Raises:
        OSError: if it cannot be written; what was there before is there still.
    """
    if _is_special(path):
        with path.open("wb") as file:
            yield file
        return
    partial, target = _names(path)
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def require_writable(path: Path) -> None:
    """Try whether `whole` could write a file there, and leave nothing behind.

    Raises:
        OSError: if it could not.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder; name a file")
    if _is_special(path):
        return
    partial, _ = _names(path)
    partial.open("wb").close()
    partial.unlink(missing_ok=True)


def write_file(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file of results whole, in a folder that is made if it is not there.

    Raises:
        RecordsError: if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as file:
            write(file)
    except (OSError, RuntimeError) as error:  # torch says RuntimeError for a disk that is full
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:120]
        raise RecordsError(f"{path} cannot be written: {reason}; what is recorded is kept") from None


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def _names(path: Path) -> tuple[Path, Path]:
    target = path.resolve()
    return target.with_name(f".{os.getpid()}-{target.name[-40:]}.partial"), target
