"""cifar10: the official python batches, in a folder or in a tar archive (plain, gz or xz).

The batches are Python 2 pickles. Each is checked by MD5 before it is unpickled, and the unpickler knows
nothing but plain values and byte arrays, so that no code can hide in a file. Archives are read in memory,
member by member; nothing is ever extracted to disk.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import lzma
import os
import pickle
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from nas_cntk.data.dataset import Raw
from nas_cntk.data.sources import Source, one_line, require_file, require_folder, show
from nas_cntk.errors import DataError

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
ARCHIVE_NAME = "cifar-10-python.tar.gz"
ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"
FOLDER_NAME = "cifar-10-batches-py"
WHAT = f"{FOLDER_NAME} (the folder, or a tar, tar.gz or tar.xz of it)"
TRAINING = tuple(f"data_batch_{i}" for i in range(1, 6))
TEST = "test_batch"
MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
# Alphabetical, so that numbering the names anew gives the official labels.
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
IMAGE_BYTES = 3 * 32 * 32
MAX_MEMBER_BYTES = 64 << 20  # a batch has 31 MB
MAX_ARCHIVE_BYTES = 1 << 29  # the unpacked archive has 186 MB: what goes on and on is a bomb
MAX_MEMBERS = 10_000  # the archive has 9
MAX_HEADER_BYTES = 1 << 16  # of a name or other fields that precede a member
LONG_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
TIMEOUT_SECONDS = 30


def read(source: Source) -> Raw:
    """The 50,000 training and 10,000 test images, in the official order.

    Raises: DataError.
    """
    path = _fetched(source.path) if source.download else source.path
    if path.is_dir():
        path = _inside(path)
    batches = _from_folder(path) if path.is_dir() else _from_archive(path)
    parts = {name: _batch(name, batches.pop(name)) for name in (*TRAINING, TEST)}
    x_test, labels_test = parts[TEST]
    return Raw(
        name="cifar10",
        x=np.concatenate([parts[name][0] for name in TRAINING]),
        labels=np.concatenate([parts[name][1] for name in TRAINING]),
        divisor=255.0,
        x_test=x_test,
        labels_test=labels_test,
    )


def _inside(folder: Path) -> Path:
    """What to read of a folder: itself, the official folder or the official archive in it.

    Raises: DataError.
    """
    require_folder(folder, WHAT)
    for candidate in (folder, folder / FOLDER_NAME):
        if any((candidate / name).exists() for name in MD5):
            return candidate
    if (folder / ARCHIVE_NAME).exists():
        return folder / ARCHIVE_NAME
    raise DataError(f"{show(folder)} has none of the CIFAR-10 batches (data_batch_1, ...): give {WHAT}")


def _from_folder(folder: Path) -> dict[str, bytes]:
    batches = {}
    for name in MD5:
        path = folder / name
        require_file(path, f"{name} of CIFAR-10")
        with path.open("rb") as stream:
            batches[name] = _limited(stream, path.stat().st_size, show(path))
    return batches


def _from_archive(path: Path) -> dict[str, bytes]:
    """The batches of an archive, read in one pass and no further than needed.

    Raises: DataError.
    """
    require_file(path, f"{WHAT}; --download fetches it")
    batches: dict[str, bytes] = {}
    try:
        with _decompressed(path) as plain, _tar(_Bounded(plain, path)) as archive:
            for number, member in enumerate(archive):
                if number >= MAX_MEMBERS:
                    raise DataError(f"{show(path)} has over {MAX_MEMBERS:,} members: give {WHAT}")
                name = PurePosixPath(member.name).name
                if name not in MD5 or name in batches:
                    continue
                stream = archive.extractfile(member) if member.isreg() else None
                if stream is None:
                    raise DataError(f"{name} in {show(path)} is a link or no regular file: give {WHAT}")
                batches[name] = _limited(stream, member.size, f"{name} in {show(path)}")
                if len(batches) == len(MD5):
                    break
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, ValueError, gzip.BadGzipFile) as error:
        raise DataError(f"{show(path)} is truncated or no archive ({one_line(error)}): give {WHAT}") from None
    missing = [name for name in MD5 if name not in batches]
    if missing:
        raise DataError(f"{show(path)} is truncated or not CIFAR-10: it has no {missing[0]}; give {WHAT}")
    return batches


def _decompressed(path: Path) -> IO[bytes]:
    """The tar stream of a file, told by its first bytes and not by its name."""
    with path.open("rb") as probe:
        magic = probe.read(6)
    if magic == b"\xfd7zXZ\0":
        return lzma.open(path)
    if magic[:2] == b"\x1f\x8b":
        return cast(IO[bytes], gzip.open(path))
    return path.open("rb")


def _tar(stream: Any) -> tarfile.TarFile:
    return tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member)


class _Member(tarfile.TarInfo):
    """A header of an archive. What precedes a member, its long name or its map of holes, is no way to fill memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if member.type in LONG_HEADERS and member.size > MAX_HEADER_BYTES:
            raise DataError(f"a header of {member.size:,} bytes in an archive: give {WHAT}")
        if member.type == tarfile.GNUTYPE_SPARSE:
            member._proc_gnusparse_10()
        return member

    def _proc_gnusparse_10(self, *_: object) -> None:  # the name by which tarfile calls the other kind of such files
        raise DataError(f"a file with holes in an archive: give {WHAT}")


class _Bounded(io.RawIOBase):
    """A stream that ends in an error after ``MAX_ARCHIVE_BYTES``, and where it is read on long after its end.

    That is what tarfile does, block by block, to pass over a member that declares exabytes.
    """

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        super().__init__()
        self._stream, self._path, self._left, self._ends = stream, path, MAX_ARCHIVE_BYTES, 100

    def read(self, size: int = -1) -> bytes:
        block = self._stream.read(size)
        self._left -= len(block)
        if self._left < 0:
            raise DataError(f"{show(self._path)} unpacks to over {MAX_ARCHIVE_BYTES >> 20} MiB: give {WHAT}")
        self._ends -= not block
        if self._ends < 0:
            raise EOFError("it ends within a member")
        return block


def _limited(stream: IO[bytes], size: int, what: str) -> bytes:
    if not 0 <= size <= MAX_MEMBER_BYTES:  # tar has negative numbers
        raise DataError(f"{what} has {size:,} bytes, a batch of CIFAR-10 about 31 million: give {WHAT}")
    content = stream.read(size)
    if len(content) < size:
        raise DataError(f"{what} is truncated: {len(content):,} of {size:,} bytes are there; fetch it again")
    return content


def _batch(name: str, content: bytes) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Images (n, 32, 32, 3) and class names (n,) of one batch.

    Raises: DataError.
    """
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != MD5[name]:
        raise DataError(f"{name} has MD5 {found}, the official one is {MD5[name]}: damaged, fetch CIFAR-10 again")
    table = unpickle(content, name)
    data = table.get(b"data") if isinstance(table, dict) else None
    labels = table.get(b"labels") if isinstance(table, dict) else None
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != IMAGE_BYTES:
        raise DataError(f"{name} has no array 'data' of {IMAGE_BYTES} bytes an image: fetch CIFAR-10 again")
    if not isinstance(labels, list) or not all(type(y) is int and 0 <= y < len(CLASSES) for y in labels):
        raise DataError(f"{name} has no list 'labels' of numbers 0 to 9: fetch CIFAR-10 again")
    images = data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.array(CLASSES)[np.array(labels, dtype=np.int64)]


def unpickle(content: bytes, name: str) -> Any:
    """Plain values and byte arrays of a pickle; strings of Python 2 come as bytes.

    Raises: DataError for a pickle that asks for anything else, which is not run, and for a broken one.
    """
    try:
        return _PlainUnpickler(io.BytesIO(content), encoding="bytes").load()
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    except Exception as error:  # a broken pickle can raise nearly anything
        raise DataError(f"{name} is no readable pickle ({one_line(error)}): fetch CIFAR-10 again") from None


class _PlainUnpickler(pickle.Unpickler):
    """Knows the three names that an array of bytes needs, each replaced by a function of ours."""

    def find_class(self, module: str, name: str) -> Any:
        known = {
            "numpy.core.multiarray._reconstruct": _empty_array,
            "numpy._core.multiarray._reconstruct": _empty_array,
            "numpy.ndarray": "ndarray",  # only ever an argument of _reconstruct, so a word does
            "numpy.dtype": _byte_dtype,
        }
        wanted = f"{module}.{name}"
        if wanted not in known:
            raise DataError(
                f"the pickle asks for {wanted[:100]!r} and was not run: only arrays and plain values are read"
            )
        return known[wanted]


def _empty_array(kind: object, shape: object, code: object) -> NDArray[np.uint8]:
    """What the array's stored state is then poured into."""
    del kind, shape, code
    return np.empty(0, dtype=np.uint8)


def _byte_dtype(code: bytes | str, align: object = False, copy: object = True) -> np.dtype[np.uint8]:
    """A dtype of its own; the flags 0 and 1 of old pickles are deprecated in newer numpy."""
    del align, copy
    if code not in (b"u1", "u1"):
        raise DataError(f"the pickle holds an array of {code!r}: only bytes (u1) are read")
    return np.dtype(np.uint8, False, True)


def _fetched(path: Path) -> Path:
    """Where CIFAR-10 is after a download; nothing is fetched where there is something already.

    Raises: DataError.
    """
    if path.name.endswith((".tar", ".tar.xz")) and not path.exists():
        raise DataError(f"{show(path)} does not exist, and the download is a tar.gz: name a folder or a .tar.gz")
    target = path if path.name.endswith((".tar.gz", ".tgz")) else path / ARCHIVE_NAME
    if target.exists() or path.is_file():
        return path
    if path.is_dir() and any((path / part / "data_batch_1").exists() for part in ("", FOLDER_NAME)):
        return path
    partial = target.with_name(target.name + ".part")
    try:
        with urllib.request.urlopen(URL, timeout=TIMEOUT_SECONDS) as answer:
            target.parent.mkdir(parents=True, exist_ok=True)  # only now: no network leaves no folder behind
            with partial.open("wb") as out:
                found = _copy(answer.read, out)
        if found != ARCHIVE_MD5:
            raise DataError(f"{URL} gave a file with MD5 {found}, {ARCHIVE_MD5} is due: try again")
        os.replace(partial, target)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise DataError(
            f"cannot download {URL} ({one_line(error)}): fetch it where there is a network and give its path"
        ) from None
    finally:
        partial.unlink(missing_ok=True)
    return path


def _copy(read_block: Callable[[int], bytes], out: IO[bytes]) -> str:
    """Copy a download block by block and return its MD5."""
    digest, size = hashlib.md5(usedforsecurity=False), 0
    while block := read_block(1 << 20):
        size += len(block)
        if size > MAX_ARCHIVE_BYTES:
            raise DataError(f"{URL} gave over {MAX_ARCHIVE_BYTES >> 20} MiB, about 163 are due: try again later")
        digest.update(block)
        out.write(block)
    return digest.hexdigest()
