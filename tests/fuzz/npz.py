"""npz archives: members with headers of their own, doubled, compressed in every way, with names that lead elsewhere."""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path
from random import Random

import numpy as np

from fuzz.harness import Reader
from fuzz.images import check, pictures
from fuzz.mutations import spoiled_bytes
from nas_cntk import data
from nas_cntk.errors import DataError

DTYPES = (
    *("|u1", "<u2", ">u2", "<i4", ">i8", "<u8", "|b1", "<f2", "<f4", ">f4", "<f8", "<f16", "<c8", "|i1"),
    *("|O", "|S3", "|S0", "<U2", "<U0", "|V4", "<M8[D]", "<m8", "", "x", "<u3", "4u1", "(2,2)u1", "a4", "<U99999999"),
    *("f8,u1", "(1000000000,)u1", "|V2000000000", "O8", "i4 ", "\\x00", "T"),
)
SHAPES = (
    *("(12, 4, 4)", "(12, 4, 4, 1)", "(12,)", "()", "(-1,)", "(-12, -4, 4)", "(0, 4, 4)", "(12, 0)", "(12.0, 4)"),
    *("(1000000000000,)", "(4294967296, 4294967296)", "(18446744073709551616,)", "(True, 4, 4)", "None", "12"),
    *("(" + "1, " * 70 + ")", "(" * 150 + ")" * 150, "[12, 4, 4]", "('12',)", "(12, 4, 4), ", "(0, 1000000000000)"),
    *("(1000000000, 1, 1)", "(12, 1000000000, 0)", "(9" * 30, "(" + "9" * 5000 + ",)", "-" * 4000 + "1"),
)
HEADS = (
    "{'descr': DTYPE, 'fortran_order': ORDER, 'shape': SHAPE, }",
    "{'descr': DTYPE, 'fortran_order': ORDER, 'shape': SHAPE, 'more': 1}",
    "{'shape': SHAPE, 'descr': DTYPE, 'fortran_order': ORDER}",
    "{'descr': [('a', DTYPE), ('b', '|u1')], 'fortran_order': ORDER, 'shape': SHAPE}",
    "{'descr': [DTYPE], 'fortran_order': ORDER, 'shape': SHAPE}",
    "{'descr': (DTYPE, (2,)), 'fortran_order': ORDER, 'shape': SHAPE}",
    "{'descr': (), 'fortran_order': ORDER, 'shape': SHAPE}",
    "{'descr': {'names': ['a'], 'formats': [DTYPE]}, 'fortran_order': ORDER, 'shape': SHAPE}",
    "{1: DTYPE, 'fortran_order': ORDER, 'shape': SHAPE}",
    "{[]: DTYPE, 'shape': SHAPE}",
    "{{}, DTYPE, SHAPE}",
    "[DTYPE, ORDER, SHAPE]",
    "__import__('os').system('exit 1')",
    "{'descr': DTYPE, 'fortran_order': ORDER, 'shape': SHAPE, '\\d': 1L, 'x': 0777}",
    "",
)
NAMES = ("../../x", "/etc/passwd", "x/../y", "\x1b[31m", "c:\\x", "x\n", "é", "x" * 3000)


def make() -> Reader:
    """The reader of npz."""
    return Reader("npz", run, (DataError,))


def run(rng: Random, folder: Path) -> None:
    """Read one archive."""
    n = rng.choice((12, 20))
    arrays = {"x": _images(rng, n), "y": _labels(rng, n)}
    if rng.random() < 0.3:
        arrays |= {"x_test": _images(rng, 6), "y_test": _labels(rng, 6)}
    members = {name: _npy(array) for name, array in arrays.items()}
    for name in rng.sample(sorted(members), rng.choice((0, 0, 0, 1, 1, 2))):
        members[name] = _spoiled(rng, members[name])
    content = _archive(rng, members)
    if rng.random() < 0.3:
        content = spoiled_bytes(rng, content)
    path = folder / "a.npz"
    path.write_bytes(content)
    check(data.load(f"npz:{path}", image_size=rng.choice((None, None, None, 1, 2))))


def _images(rng: Random, n: int) -> np.ndarray:
    x = pictures(n, rng.choice(((4, 4), (4, 4), (4, 4, 3), (2, 2, 1))), rng.randrange(5))
    kind = rng.randrange(12)
    if kind < 6:
        return x
    if kind == 6:
        return (x / 255).astype(rng.choice(("<f2", "<f4", ">f4", "<f8", "<f16")))
    if kind == 7:
        return x.astype(rng.choice(("<u2", ">i4", "<i8", "<u8"))) * 256
    if kind == 8:
        return x > 99
    if kind == 9:
        y = x.astype(float)
        y[0, 0, 0] = rng.choice((np.nan, np.inf, 1e300, -1e39, 1e-320))
        return y
    if kind == 10:
        return np.asfortranarray(x)
    return x.astype(float) * rng.choice((1e36, 1e-40, 0.0, 1e300))


def _labels(rng: Random, n: int) -> np.ndarray:
    y = np.arange(n) % 3
    kind = rng.randrange(8)
    if kind < 3:
        return y.astype(rng.choice(("<i8", "|u1", ">i2", "<u8")))
    if kind == 3:
        return np.array(["a", "\x1b[31m<b>", "'; --"])[y]
    if kind == 4:
        return np.array([b"a", b"b\xff", b"c"])[y] if rng.random() < 0.3 else np.array([b"a", b"b", b"c"])[y]
    if kind == 5:
        return y > 0
    if kind == 6:
        return np.array([-(2**63), 2**63 - 1, 0])[y]
    return y * rng.choice((1, 1, 2, 1.0, 1j, 0))


def _npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, array, allow_pickle=False)
    return out.getvalue()


def _spoiled(rng: Random, content: bytes) -> bytes:
    if rng.random() < 0.3:
        return spoiled_bytes(rng, content)
    text = rng.choice((HEADS[0], HEADS[0], HEADS[0], rng.choice(HEADS)))
    text = text.replace("SHAPE", rng.choice((SHAPES[0], SHAPES[2], rng.choice(SHAPES))))
    text = text.replace("DTYPE", repr(rng.choice((DTYPES[0], rng.choice(DTYPES)))))
    head = text.replace("ORDER", rng.choice(("False", "False", "True", "None", "1"))).encode("latin1")
    version = rng.choice(((1, 0), (1, 0), (2, 0), (3, 0), (0, 0), (9, 9)))
    head += b" " * (63 - (len(head) + 10) % 64) + b"\n"
    size = len(head) if rng.random() < 0.9 else rng.choice((0, 1, 65535, 2**32 - 1))
    length = size.to_bytes(4, "little") if version >= (2, 0) else (size % 65536).to_bytes(2, "little")
    body = content[128:]
    return b"\x93NUMPY" + bytes(version) + length + head + rng.choice((body, body, body * 9, b"", bytes(200_000)))


def _archive(rng: Random, members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    usual, unusual = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED), (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w") as archive:
        warnings.simplefilter("ignore")  # of doubled names
        for name, content in members.items():
            method = rng.choice(usual if rng.random() < 0.98 else unusual)
            archive.writestr(name + rng.choice((".npy", ".npy", ".npy", ".npy", "")), content, method)
            if rng.random() < 0.05:
                archive.writestr(name + ".npy", b"second", method)
        if rng.random() < 0.1:
            archive.writestr(rng.choice(NAMES) + ".npy", members["x"])
    return out.getvalue()
