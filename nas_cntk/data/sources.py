"""Source: where a reader reads from, and the checks that every reader makes before it reads."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nas_cntk.errors import DataError

# Larger than any dataset an exact kernel can use; a file that declares more is a mistake or a bomb.
MAX_BYTES = 4 << 30


@dataclass(frozen=True, slots=True)
class Source:
    """A path and the options that a reader may need."""

    path: Path
    image_size: int | None = None
    download: bool = False
    skip_bad: bool = False


def show(path: Path | str) -> str:
    """The quoted path; ``repr`` keeps line breaks in names out of one-line messages."""
    return repr(str(path))


def one_line(thing: object) -> str:
    """The text of an exception of another library, or of a shape that a file declares, as one short line."""
    try:
        text = " ".join(str(thing).split()) or type(thing).__name__
    except ValueError:  # whole numbers of thousands of digits have no text
        text = "of absurd numbers"
    return text if len(text) <= 160 else text[:157] + "..."


def first_few(names: Iterable[str], few: int = 3) -> str:
    """The first names, quoted, and how many more there are."""
    listed = [repr(name) for name in names]
    more = f" and {len(listed) - few} more" if len(listed) > few else ""
    return ", ".join(listed[:few]) + more


def counted(number: int, one: str, several: str | None = None) -> str:
    """A number with its noun: 1 image, 1,200 images."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def require_file(path: Path, what: str) -> None:
    """Check that there is a regular file with something in it.

    Raises: DataError.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a null byte in the name
        raise DataError(f"{show(path)} does not exist: give the path of {what}") from None
    if stat.S_ISDIR(status.st_mode):
        raise DataError(f"{show(path)} is a folder where a file is due: give the path of {what}")
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{show(path)} is no regular file: give the path of {what}")
    if status.st_size == 0:
        raise DataError(f"{show(path)} is empty: give the path of {what}")


def require_folder(path: Path, what: str) -> None:
    """Check that there is a folder with something in it.

    Raises: DataError.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise DataError(f"{show(path)} does not exist: give {what}") from None
    if not stat.S_ISDIR(status.st_mode):
        raise DataError(f"{show(path)} is a file where a folder is due: give {what}")
    if not any(path.iterdir()):
        raise DataError(f"{show(path)} is an empty folder: give {what}")


def require_budget(shape: tuple[int, ...], item_bytes: int, what: str) -> None:
    """Check that an array of this declared shape fits, before anything is allocated.

    Raises: DataError.
    """
    wanted = math.prod(shape) * item_bytes
    limit = min(MAX_BYTES, _physical_memory() // 2)
    if min(shape, default=0) < 0 or wanted > limit:
        size = f"{wanted / 2**30:,.1f}" if abs(wanted) < 2**80 else "astronomically many"
        raise DataError(
            f"{what} has shape {one_line(shape)}, {size} GiB, above the limit of "
            f"{limit / 2**30:.1f} GiB: use fewer or smaller images (--image-size)"
        )


def _physical_memory() -> int:
    """Bytes of memory of this machine; without a way to know, no limit of its own."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 2 * MAX_BYTES
