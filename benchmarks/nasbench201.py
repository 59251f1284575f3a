"""Architectures of the NAS-Bench-201 cell: from an architecture string to our graph.

Stem conv3x3; three stages of cells, joined by a pre-activation residual block with stride 2; relu, global average
pooling, dense. nor_conv is relu then conv; avg_pool_3x3 is `same` with stride 1. No batch norm, no widths.

Source: Dong and Yang, "NAS-Bench-201" (2020), section 2.1.
"""

from __future__ import annotations

import itertools

import numpy as np

from nas_cntk import Architecture, Builder

OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
NODES = 4


def parse(text: str) -> tuple[tuple[tuple[str, int], ...], ...]:
    """Return, for nodes 1 to 3, the (op, from) of "|op~0|+|op~0|op~1|+|op~0|op~1|op~2|"."""
    nodes = []
    for node, part in enumerate(text.split("+"), start=1):
        edges = [tuple(edge.split("~")) for edge in part.strip("|").split("|")]
        if [int(source) for _, source in edges] != list(range(node)) or any(op not in OPS for op, _ in edges):
            raise ValueError(f"{text!r} is no NAS-Bench-201 architecture")
        nodes.append(tuple((op, int(source)) for op, source in edges))
    if len(nodes) != NODES - 1:
        raise ValueError(f"{text!r} is no NAS-Bench-201 architecture")
    return tuple(nodes)


def every() -> list[str]:
    """Return all 15,625 architecture strings."""
    edges = [(node, source) for node in range(1, NODES) for source in range(node)]
    found = []
    for chosen in itertools.product(OPS, repeat=len(edges)):
        parts: list[list[str]] = [[] for _ in range(NODES - 1)]
        for (node, source), op in zip(edges, chosen, strict=True):
            parts[node - 1].append(f"{op}~{source}")
        found.append("+".join("|" + "|".join(part) + "|" for part in parts))
    return found


def is_live(text: str) -> bool:
    """Return whether the cell's output sees its input."""
    seen = {0}
    for node, edges in enumerate(parse(text), start=1):
        if any(op != "none" and source in seen for op, source in edges):
            seen.add(node)
    return NODES - 1 in seen


def live_cells(count: int, seed: int = 0) -> list[str]:
    """Return `count` live cells, drawn without replacement."""
    names = every()
    order = np.random.default_rng(seed).permutation(len(names))
    return list(itertools.islice((names[i] for i in order if is_live(names[i])), count))


def architecture(text: str, cells_per_stage: int = 1) -> Architecture:
    """Return the network of a live cell."""
    if not is_live(text):
        raise ValueError(f"{text!r} is dead: its output does not see its input")
    b = Builder()
    x = b.conv(b.input(), 3)
    for stage in range(3):
        if stage:
            y = b.conv(b.relu(b.conv(b.relu(x), 3, stride=2)), 3)
            x = b.add(y, b.conv(b.avg_pool(x, 2, stride=2), 1))
        for _ in range(cells_per_stage):
            x = _cell(b, x, text)
    b.dense(b.global_avg_pool(b.relu(x)))
    return b.build()


def _cell(b: Builder, x: int, text: str) -> int:
    values: dict[int, int] = {0: x}
    for node, edges in enumerate(parse(text), start=1):
        terms = []
        for op, source in edges:
            if op == "none" or source not in values:
                continue
            value = values[source]
            if op == "nor_conv_1x1":
                value = b.conv(b.relu(value), 1)
            elif op == "nor_conv_3x3":
                value = b.conv(b.relu(value), 3)
            elif op == "avg_pool_3x3":
                value = b.avg_pool(value, 3, stride=1, padding="same")
            terms.append(value)
        if terms:
            values[node] = b.add(*terms) if len(terms) > 1 else terms[0]
    return values[NODES - 1]
