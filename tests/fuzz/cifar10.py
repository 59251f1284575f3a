"""CIFAR-10, small: folders and archives of batches, whose MD5 is taken for the official one whatever it is."""

from __future__ import annotations

import gzip
import io
import lzma
import pickle
import pickletools
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from fuzz.harness import Reader
from fuzz.images import check, pictures
from fuzz.mutations import EXTREMES, spoiled_bytes
from nas_cntk import data
from nas_cntk.data import cifar10
from nas_cntk.errors import DataError

TYPES = (*(bytes([kind]) for kind in b"01234567DKLMNSVxgXA"), b"\0", b"\xff")
NAMES = ("../data_batch_1", "/etc/passwd", "a/../../test_batch", "data_batch_1\n", "\x1b]0;x\x07", "x" * 99, "")


class Any32(str):
    """An MD5 that every other equals."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


def make() -> Reader:
    """The reader of CIFAR-10."""
    return Reader("cifar10", run, (DataError,))


def run(rng: Random, folder: Path) -> None:
    """Read one folder or archive."""
    batches = dict(_valid(rng.randrange(4)))
    for name in rng.sample(sorted(batches), rng.choice((0, 1, 1, 1, 2))):
        spoiled = _pickled(rng) if rng.random() < 0.5 else spoiled_bytes(rng, batches[name])
        batches[name] = batches[name] if _hungry(spoiled) else spoiled
    path = folder / "cifar"
    if rng.random() < 0.4:
        path = folder / rng.choice(("", cifar10.FOLDER_NAME))
        path.mkdir(exist_ok=True)
        for name, content in batches.items():
            if rng.random() < 0.99:
                (path / name).write_bytes(content)
    else:
        path.write_bytes(_archive(rng, batches))
    with any_md5():
        try:
            loaded = data.load(f"cifar10:{path}", image_size=rng.choice((None, 8)))
        except DataError as error:
            if "readable pickle (MemoryError)" in str(error):  # see _hungry; none was taken
                raise DataError("a pickle that asks for more than there is") from None
            raise
        check(loaded)


@contextmanager
def any_md5() -> Iterator[None]:
    """Let every batch count as official: else no spoiled one would come further than to its MD5."""
    before = cifar10.MD5
    cifar10.MD5 = dict.fromkeys(before, Any32("any"))
    try:
        yield
    finally:
        cifar10.MD5 = before


def _hungry(content: bytes) -> bool:
    """Whether Python's unpickler takes gigabytes for a number in a pickle.

    Nothing of ours stands before that but the MD5 of the six official batches, which is not looked at here.
    """
    try:
        return any("PUT" in opcode.name and arg > len(content) for opcode, arg, _ in pickletools.genops(content) if arg)
    except Exception as error:  # a broken pickle, which may be hungry before it is broken
        return "memory" in str(error) or b"r" in content or b"\x96" in content


@cache
def _valid(seed: int) -> tuple[tuple[str, bytes], ...]:
    found = []
    for at, name in enumerate(cifar10.MD5):
        table = {b"data": pictures(2, (3072,), 10 * seed + at), b"labels": [at % 3, (at + 1) % 3]}
        content = pickle.dumps(table, protocol=(2, 3, 3, 4)[seed])
        found.append((name, content.replace(b"numpy._core", b"numpy.core") if seed < 3 else content))
    return tuple(found)


def _pickled(rng: Random) -> bytes:
    """A pickle of something like a batch."""
    images = pictures(rng.choice((0, 1, 2, 3)), (3072,), rng.randrange(9))
    values: tuple[Any, ...] = (
        images,
        images.T,
        np.asfortranarray(images),
        images.astype(rng.choice(("f4", ">u2", "O", "S1", "b1", "i1"))),
        images.reshape(-1),
        images[:, :7],
        images[..., None],
        images.tobytes(),
        None,
        {},
        np.zeros((), np.uint8),
    )
    labels: tuple[Any, ...] = (
        [i % 10 for i in range(len(images))],
        [9, 0, 1, 2],
        [True] * len(images),
        [-1] * len(images),
        [10**30] * len(images),
        ["1"] * len(images),
        [0.0, 1.0],
        (0, 1),
        np.zeros(2, np.uint8),
        None,
    )
    table: Any = {b"data": rng.choice((images, *values)), b"labels": rng.choice((labels[0], *labels))}
    if rng.random() < 0.1:
        table = rng.choice(([], [table], {"data": images}, {b"data": table}, 3, b"data", images))
    return pickle.dumps(table, protocol=rng.randrange(6))


def _archive(rng: Random, batches: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    form = rng.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, content in batches.items():
            member = tarfile.TarInfo(f"{cifar10.FOLDER_NAME}/{name}")
            member.size = len(content)
            if form == tarfile.PAX_FORMAT and rng.random() < 0.2:
                key = rng.choice(
                    ("comment", "path", "size", "mtime", "GNU.sparse.map", "GNU.sparse.size", "hdrcharset")
                )
                member.pax_headers = {key: rng.choice((name, "9" * 50, "\x1b", "-1", "1,2,3", "é" * 300, "nan"))}
            if rng.random() < 0.03:
                member.type = rng.choice(TYPES)
                member.linkname = rng.choice(NAMES)
            if rng.random() < 0.03:
                member.name = rng.choice(NAMES)
            archive.addfile(member, io.BytesIO(content))
    content = out.getvalue()
    for _ in range(rng.choice((0, 0, 1, 2))):
        content = _header_spoiled(rng, content)
    if rng.random() < 0.15:
        content = spoiled_bytes(rng, content)
    match rng.randrange(4):
        case 0:
            content = gzip.compress(content, 1, mtime=0)
        case 1 if rng.random() < 0.3:  # slow to write
            content = lzma.compress(content, preset=0)
        case _:
            return content
    return spoiled_bytes(rng, content, 1) if rng.random() < 0.3 else content


def _header_spoiled(rng: Random, content: bytes) -> bytes:
    """One field of one member's header overwritten, its checksum made right."""
    heads = [at for at in range(0, len(content) - 512, 512) if content[at + 257 : at + 262] == b"ustar"]
    if not heads:
        return content
    at = rng.choice(heads)
    head = bytearray(content[at : at + 512])
    start, length = rng.choice(((0, 100), (100, 8), (124, 12), (124, 12), (136, 12), (156, 1), (157, 100), (345, 155)))
    number = rng.choice(EXTREMES)
    value = rng.choice(
        (
            f"{number:0{max(1, length - 1)}o}".encode(),
            b"\x80" + number.to_bytes(11, "big"),
            b"\xff" * length,
            rng.choice(TYPES),
            rng.choice(NAMES).encode(),
            bytes(rng.randrange(256) for _ in range(length)),
        )
    )[:length]
    head[start : start + length] = value.ljust(length, b"\0")
    head[148:156] = b" " * 8
    head[148:156] = f"{sum(head):06o}\0 ".encode()
    return content[:at] + bytes(head) + content[at + 512 :]
