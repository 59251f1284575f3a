"""Architectures as JSON: what is accepted comes back the same, has a key, and can be planned or is refused."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from random_architectures import SHAPES, random_architecture

from fuzz.harness import Reader
from fuzz.mutations import ODD_VALUES, spoiled_bytes, spoiled_document
from nas_cntk import Architecture, kernel
from nas_cntk.errors import ArchitectureError, IllegalArchitecture, NasCntkError

OPS = ("input", "conv", "relu", "avg_pool", "add", "flatten", "global_avg_pool", "dense")
FIELDS = ("kernel", "stride", "size", "padding", "trainable", "inputs", "op")
SMALL = 40  # nodes, of those that are computed
SHARE = 0.1  # of the accepted ones


def make() -> Reader:
    """The reader of architectures."""
    return Reader("architecture", run, (ArchitectureError,))


def run(rng: Random, folder: Path) -> None:
    """Read one text, bytes or document."""
    arch = Architecture.from_json(_input(rng))
    again = Architecture.from_json(arch.to_json())
    assert again == arch and again.to_json() == arch.to_json()
    assert again.key == arch.key and len(arch.key) == 32
    shape = rng.choice(SHAPES)
    try:
        shapes = arch.shapes(shape)
        assert shapes[arch.live[-1]] == () and all(side >= 1 for one in shapes for side in one)
        assert arch.count_parameters(shape, 3, 4) >= 0 and arch.count_flops(shape, 3, 4) >= 0
    except IllegalArchitecture:
        return
    if len(arch.nodes) <= SMALL and rng.random() < SHARE:
        _compute(arch, shape)


def _compute(arch: Architecture, shape: tuple[int, int, int]) -> None:
    x = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    try:
        nngp, ntk = kernel(arch, x, kind="both", backend="cpu")
    except NasCntkError:  # no trainable layer, or too large for float32
        return
    assert np.isfinite(nngp).all() and np.isfinite(ntk).all()
    assert (nngp == nngp.T).all() and (ntk == ntk.T).all() and (np.diag(nngp) >= 0).all()


@cache
def _valid() -> list[dict[str, Any]]:
    return [json.loads(random_architecture(seed, SHAPES[seed % len(SHAPES)])[1].to_json()) for seed in range(60)]


def _input(rng: Random) -> str | bytes | dict[str, Any]:
    document = rng.choice(_valid())
    match rng.randrange(8):
        case 0 | 1 | 2:
            document = _redrawn(rng, document)
        case 3:
            document = spoiled_document(rng, document)
        case 4:
            document = spoiled_document(rng, document, (*OPS, *FIELDS, 0, 1, 2, 3, [0], [1], [0, 1], [1, 1], True))
        case 5:
            return spoiled_bytes(rng, json.dumps(document).encode())
        case 6:
            return spoiled_bytes(rng, json.dumps(document).encode()).decode("utf-8", rng.choice(("replace", "ignore")))
        case _:
            document = _large(rng)
    if rng.random() < 0.3:
        return document  # type: ignore[no-any-return]
    try:
        text = json.dumps(document, ensure_ascii=rng.random() < 0.5)
    except ValueError:  # numbers of thousands of digits, which no JSON of ours writes
        return document  # type: ignore[no-any-return]
    return text.encode("utf-8", "surrogatepass") if rng.random() < 0.3 else text


def _redrawn(rng: Random, document: dict[str, Any]) -> dict[str, Any]:
    """Sizes and inputs drawn anew, nodes taken out or doubled: often legal still."""
    nodes = [dict(node) for node in document["nodes"]]
    for _ in range(rng.choice((1, 2, 4))):
        at = rng.randrange(len(nodes))
        node = nodes[at]
        match rng.randrange(6):
            case 0 if "kernel" in node:
                node["kernel"] = rng.choice((1, 3, 5, 7, 1023, 2, 0, 1025))
            case 1 if "stride" in node:
                node["stride"] = rng.choice((1, 2, 3, 1023, 0))
            case 2 if "size" in node:
                node["size"] = rng.choice((1, 2, 3, 4, 1023))
                node["padding"] = rng.choice(("valid", "same"))
            case 3 if at:
                node["inputs"] = [rng.randrange(at) for _ in node.get("inputs", [0])]
            case 4 if at and node["op"] == "add":
                node["inputs"] = [rng.randrange(at) for _ in range(rng.choice((1, 2, 3, 30)))]
            case 5 if "trainable" in node:
                node["trainable"] = not node["trainable"]
            case _:
                nodes.insert(at, dict(node))
                for later in nodes[at + 1 :]:
                    later["inputs"] = [i + (i >= at) for i in later.get("inputs", [])]
    return {"nodes": nodes}


def _large(rng: Random) -> dict[str, Any]:
    """Many nodes of few kinds: long chains, sums of sums whose multiplicities explode, rows of equal branches."""
    count = rng.choice((10, 30, 100, 300))
    if rng.random() < 0.02:
        count = rng.choice((3000, 9000))
    nodes: list[dict[str, Any]] = [{"op": "input"}, {"op": "conv", "kernel": 3, "inputs": [0]}]
    kind = rng.randrange(4)
    times = rng.choice((1, 2, 5, 40))
    for _ in range(count):
        last = len(nodes) - 1
        if kind == 0:
            nodes.append({"op": "add", "inputs": [last] * times})
        elif kind == 1:
            nodes.append({"op": "conv", "kernel": rng.choice((1, 3)), "inputs": [rng.choice((0, last))]})
        elif kind == 2:
            nodes.append({"op": "conv", "kernel": 1, "inputs": [1 + rng.randrange(min(3, last))]})
        else:
            nodes.append({"op": "avg_pool", "size": 3, "padding": "same", "inputs": [last]})
    if kind == 2:
        nodes.append({"op": "add", "inputs": list(range(1, len(nodes)))})
    if rng.random() < 0.1:
        nodes[-1] = rng.choice(ODD_VALUES)
    nodes += [{"op": "flatten", "inputs": [len(nodes) - 1]}, {"op": "dense", "inputs": [len(nodes)]}]
    return {"nodes": nodes}
