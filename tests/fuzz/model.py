"""Folders with exported models, both kinds: what can be loaded says something of images, or is refused."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from fuzz.harness import Reader
from fuzz.mutations import EXTREMES, spoiled_bytes, spoiled_document
from nas_cntk import Builder, load_model
from nas_cntk.errors import NasCntkError
from nas_cntk.export import arrays as safetensors
from nas_cntk.export.manifest import ARCHITECTURE, FILE, KERNEL, WEIGHTS, Manifest, Network, Regression

SHAPE = (4, 3, 2)


def make() -> Reader:
    """The reader of exported models."""
    return Reader("model", run, (NasCntkError,))


def run(rng: Random, folder: Path) -> None:
    """Load one model and ask it."""
    files = dict(_valid(rng.randrange(2)))
    for name in rng.sample(sorted(files), rng.choice((0, 1, 1, 2))):
        files[name] = _spoiled(rng, name, files[name])
    for name, content in files.items():
        if rng.random() < 0.99:
            (folder / name).write_bytes(content)
    model = load_model(folder)
    x = np.random.default_rng(0).random((2, *model.image_shape)) if np.prod(model.image_shape) < 1e6 else None
    if x is None:
        return
    scores = model.scores(x.astype(np.float32))
    assert scores.shape == (2, len(model.classes)) and np.isfinite(scores).all()


@cache
def _valid(kind: int) -> tuple[tuple[str, bytes], ...]:
    rng = np.random.default_rng(0)
    b = Builder()
    b.dense(b.flatten(b.conv(b.relu(b.conv(b.input(), 3)), 1)))
    arch = b.build()
    how: Any = Regression("ntk", "float32", 3, 1e-3, 0.0, 2.0) if kind == 0 else Network(2, False, "standard")
    manifest = Manifest(("a", "b"), SHAPE, "any", (0.5, 0.5), (0.25, 0.25), how, {"trial": 3})
    files = {FILE: manifest.to_json().encode(), ARCHITECTURE: arch.to_json().encode()}
    if kind == 0:
        images = rng.random((3, *SHAPE)).astype(np.float32)
        files[KERNEL] = safetensors.write_arrays({"images": images, "coefficients": rng.random((3, 2))})
    else:
        from nas_cntk.export.cnn import build_network, pack

        files[WEIGHTS] = pack(build_network(arch, SHAPE, 2, how))
    return tuple(files.items())


def _spoiled(rng: Random, name: str, content: bytes) -> bytes:
    if name in (FILE, ARCHITECTURE):
        if rng.random() < 0.3:
            return spoiled_bytes(rng, content)
        return _dumped(spoiled_document(rng, json.loads(content))) or content
    size = int.from_bytes(content[:8], "little")
    match rng.randrange(4):
        case 0:
            return (rng.choice(EXTREMES)).to_bytes(8, "little") + content[8:]
        case 1:
            head = _dumped(spoiled_document(rng, json.loads(content[8 : 8 + size]))) or b"{}"
            return len(head).to_bytes(8, "little") + head + content[8 + size :]
        case 2:  # values alone: NaN and others
            at = rng.randrange(8 + size, len(content))
            return content[:at] + rng.choice((b"\xff", b"\x7f\xf8", bytes(9))) + content[at + 1 :]
        case _:
            return spoiled_bytes(rng, content)


def _dumped(document: Any) -> bytes | None:
    try:
        return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")
    except ValueError:  # numbers of thousands of digits
        return None
