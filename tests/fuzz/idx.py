"""IDX folders, plain and compressed, with headers that lie."""

from __future__ import annotations

import gzip
from pathlib import Path
from random import Random

from fuzz.harness import Reader
from fuzz.images import check, pictures
from fuzz.mutations import EXTREMES, spoiled_bytes
from nas_cntk import data
from nas_cntk.errors import DataError

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def make() -> Reader:
    """The reader of IDX."""
    return Reader("idx", run, (DataError,))


def run(rng: Random, folder: Path) -> None:
    """Read one folder."""
    n, m = rng.choice((4, 12, 20)), rng.choice((0, 4, 6))
    shape = rng.choice(((4, 4), (1, 1), (3, 5)))
    files = {NAMES[0]: _array(rng, n, shape), NAMES[1]: _array(rng, n, ())}
    if m:
        files |= {NAMES[2]: _array(rng, m, shape), NAMES[3]: _array(rng, m, ())}
    for name in rng.sample(sorted(files), rng.choice((0, 1, 1, 2))):
        files[name] = _spoiled(rng, files[name])
    if rng.random() < 0.05:
        files.pop(rng.choice(sorted(files)))
    for name, content in files.items():
        if rng.random() < 0.3:
            content = gzip.compress(content, compresslevel=1, mtime=0)
            if rng.random() < 0.3:
                content = spoiled_bytes(rng, content, 1)
            name += rng.choice(("", ".gz"))
        place = folder / rng.choice((name, name, name, name.replace("-idx", ".idx")))
        place.write_bytes(content)
    check(data.load(f"idx:{folder}", image_size=rng.choice((None, None, None, 1, 2, 3))))


def _array(rng: Random, n: int, shape: tuple[int, ...]) -> bytes:
    sizes = (n, *shape)
    head = bytes([0, 0, 8, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes)
    body = pictures(n, shape, rng.randrange(5)).tobytes() if shape else bytes(i % 3 for i in range(n))
    return head + body


def _spoiled(rng: Random, content: bytes) -> bytes:
    kind = rng.randrange(5)
    if kind == 0:  # a size
        at = 4 * rng.randrange(1, 4)
        return content[:at] + (rng.choice(EXTREMES) % 2**32).to_bytes(4, "big") + content[at + 4 :]
    if kind == 1:  # one dimension stretched, another shrunk: the bytes are right, the shape is not
        sizes = [int.from_bytes(content[at : at + 4], "big") for at in range(4, 4 + 4 * content[3], 4)]
        sizes[0], sizes[-1] = sizes[-1], sizes[0]
        return content[:4] + b"".join(size.to_bytes(4, "big") for size in sizes) + content[4 + 4 * len(sizes) :]
    if kind == 2:  # pixels or labels, which may hold anything
        at = rng.randrange(4 + 4 * content[3], len(content))
        return content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :]
    if kind == 3:
        return content[:4] + (0).to_bytes(4, "big") + content[8:]
    return spoiled_bytes(rng, content)
