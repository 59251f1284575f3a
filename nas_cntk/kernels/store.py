"""Tiles of one or several matrices in a zarr folder: written whole or not at all, checked when read.

    STORE/zarr.json                  what is computed (the identity), as attributes of the group
    STORE/images                     one hash an image, shape (n, 16)
    STORE/<key>-<kind>               one symmetric matrix, of which the tiles (i, j >= i) are stored
    STORE/test-<hash>-<key>-<kind>   test images by these images, all tiles

Entries that were never computed are NaN, which no kernel is, so the tiles themselves tell how far the matrix has come.
Each tile is one file with a checksum (zarr's crc32c codec), written to a temporary name and renamed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from nas_cntk.errors import KernelError

Matrix = NDArray[np.floating]
Hashes = NDArray[np.uint8]  # shape: (n, 16)

FORMAT = 1
_LOCK = ".lock"
_HASHES_A_CHUNK = 4096
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the system says about a folder into one line."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        if error.errno in _FULL:
            mend = "what was computed is kept: free some space there and make the same call again"
        elif error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            mend = "make it writable, or name another folder as the store"
        else:
            mend = "name another folder as the store"
        raise KernelError(f"the store {path} cannot be used: {reason}; {mend}") from None


class Store:
    """A folder of tiles.

    Args:
        path: the folder; made if it is not there.
        identity: what is computed, ready for JSON; another one than the folder's is refused.
        tile: the side of the tiles of a new folder; an old one keeps its own.

    Raises:
        KernelError: if the folder holds something else, or cannot be read or made.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], tile: int) -> None:
        import zarr

        self.path = path
        self._arrays: dict[str, Any] = {}
        self._lock: int | None = None
        with disk_errors(path):
            if path.exists() and not path.is_dir():
                raise KernelError(f"the store {path} is a file; name a folder, or a new name")
            there = [name for name in os.listdir(path) if not _is_ours(name)] if path.exists() else []
            if not (path / "zarr.json").exists():
                if there:
                    raise KernelError(f"{path} is no Gram store but holds {there[0]!r}; name an empty or a new folder")
                attributes: dict[str, Any] = {"nas_cntk_gram": {"format": FORMAT, "tile": tile, **identity}}
                self._group = zarr.open_group(path, mode="a", attributes=attributes)
                _sync(path / "zarr.json")
            else:
                self._group = _opened(path)
        stored = self._group.attrs.get("nas_cntk_gram")
        if not isinstance(stored, dict) or not isinstance(stored.get("tile"), int):
            raise KernelError(f"{path} is a zarr folder but no Gram store; name an empty or a new folder")
        for name, wanted in {"format": FORMAT, **identity}.items():
            if stored.get(name) != wanted:
                raise KernelError(
                    f"the store {path} was made for {name.replace('_', ' ')} {_short(stored.get(name))},"
                    f" not {_short(wanted)}; name another folder, or delete this one"
                )
        self.tile: int = stored["tile"]

    def check_images(self, hashes: Hashes) -> None:
        """Refuse other images than those that the folder was made for (fewer and more are fine).

        Raises:
            KernelError: on the first that differs.
        """
        with disk_errors(self.path):
            if not (self.path / "images" / "zarr.json").exists():
                return
            try:
                stored = np.asarray(self._open("images")[:])
            except (ValueError, KeyError, RuntimeError) as error:
                raise _damaged(self.path, error) from None
        common = min(len(stored), len(hashes))
        different = np.flatnonzero((stored[:common] != hashes[:common]).any(axis=1))
        if len(different):
            raise KernelError(
                f"the store {self.path} was made for other images (number {different[0]} differs);"
                " name another folder, or delete this one"
            )

    @contextlib.contextmanager
    def writing(self, needed: int) -> Iterator[None]:
        """Hold the folder for writing about `needed` more bytes.

        Raises:
            KernelError: if another process writes there, or the disk has too little room.
        """
        with disk_errors(self.path):
            self._acquire()
        try:
            with disk_errors(self.path):
                for left in self.path.rglob("*.partial"):  # of a process that was killed
                    left.unlink(missing_ok=True)
                free = shutil.disk_usage(self.path).free
            if free < needed:
                raise KernelError(
                    f"the store {self.path} needs {_size(needed)} more and its disk has {_size(free)};"
                    " free some space, or name a folder on another disk"
                )
            with disk_errors(self.path):
                yield
        finally:
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def add_images(self, hashes: Hashes) -> None:
        """Record images beyond those recorded already; before any tile of theirs is written."""
        if not (self.path / "images" / "zarr.json").exists():
            self._create("images", (0, 16), (_HASHES_A_CHUNK, 16), np.dtype(np.uint8), 0)
        array = self._open("images")
        old = array.shape[0]
        if len(hashes) > old:
            array.resize((len(hashes), 16))
            array[old:] = hashes[old:]
            _sync(self.path / "images" / "zarr.json")
            for chunk in range(old // _HASHES_A_CHUNK, -(-len(hashes) // _HASHES_A_CHUNK)):
                _sync(self.path / "images" / "c" / str(chunk) / "0")

    def grow(self, name: str, shape: tuple[int, int], dtype: np.dtype[np.floating]) -> None:
        """Make a matrix, or make it larger; never smaller."""
        if not (self.path / name / "zarr.json").exists():
            self._create(name, shape, (self.tile, self.tile), dtype, float("nan"))
            return
        array = self._open(name)
        if array.shape[0] < shape[0] or array.shape[1] < shape[1]:
            array.resize((max(shape[0], array.shape[0]), max(shape[1], array.shape[1])))
            _sync(self.path / name / "zarr.json")

    def read(self, name: str, i: int, j: int, shape: tuple[int, int]) -> Matrix | None:
        """Return the first rows and columns of tile (i, j), up to `shape`; None if it is not there or torn.

        Entries that were not computed are NaN. Fewer rows or columns come back where the matrix has no more yet.
        """
        with disk_errors(self.path):
            if not self._file(name, i, j).exists():
                return None
            top, left = i * self.tile, j * self.tile
            try:
                block = self._open(name)[top : top + shape[0], left : left + shape[1]]
            except (ValueError, KeyError, RuntimeError):  # the checksum, or a file that is too short for one
                return None
        return cast(Matrix, np.asarray(block))

    def has(self, name: str, i: int, j: int) -> bool:
        """Return whether there is a file of tile (i, j)."""
        return self._file(name, i, j).exists()

    def write(self, name: str, i: int, j: int, block: Matrix) -> None:
        """Write the first rows and columns of tile (i, j), all that the matrix has there."""
        top, left = i * self.tile, j * self.tile
        array = self._open(name)
        whole = np.full(
            (min(self.tile, array.shape[0] - top), min(self.tile, array.shape[1] - left)), np.nan, array.dtype
        )
        whole[: block.shape[0], : block.shape[1]] = block
        array[top : top + whole.shape[0], left : left + whole.shape[1]] = whole
        _sync(self._file(name, i, j))

    def _file(self, name: str, i: int, j: int) -> Path:
        return self.path / name / "c" / str(i) / str(j)

    def _create(
        self, name: str, shape: tuple[int, int], tile: tuple[int, int], dtype: np.dtype[Any], fill: float
    ) -> None:
        import zarr
        from zarr.codecs import Crc32cCodec

        # Kernels are noise to a compressor: the only filter is the checksum.
        self._arrays[name] = zarr.create_array(
            self._group.store,
            name=name,
            shape=shape,
            chunks=tile,
            dtype=dtype,
            filters=None,
            compressors=[Crc32cCodec()],
            fill_value=fill,
        )
        _sync(self.path / name / "zarr.json")

    def _open(self, name: str) -> Any:
        if name not in self._arrays:
            self._arrays[name] = self._group[name]
        return self._arrays[name]

    def _acquire(self) -> None:
        descriptor = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            import fcntl
        except ImportError:  # no such locks on this system; tiles are whole all the same
            os.close(descriptor)
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise KernelError(
                f"another process is computing in the store {self.path}; wait for it, or name another folder"
            ) from None
        self._lock = descriptor
        self._arrays.clear()  # what another process did in the meantime is read again


def _opened(path: Path) -> Any:
    import zarr

    try:
        # "r+" opens a folder that cannot be written too; only writing fails there.
        return zarr.open_group(path, mode="r+")
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> KernelError:
    line = " ".join(str(error).split())[:120]
    return KernelError(f"the store {path} is damaged ({line}); delete it, and what it held is computed again")


def _is_ours(name: str) -> bool:
    # What a process that was killed before zarr.json may have left.
    return name == _LOCK or name.endswith(".partial")


def _sync(file: Path) -> None:
    # A rename may reach the disk before the content; the checksum finds that, this makes it rare.
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _short(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        text = ", ".join(_short(one) for one in value[:3])
        return f"[{text}, ... {len(value)} in all]" if len(value) > 3 else f"[{text}]"
    text = str(value)
    return text if len(text) <= 24 else text[:16] + "..."


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
