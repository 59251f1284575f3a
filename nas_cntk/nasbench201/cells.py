"""The cells by their strings, and what is made of one: edges, a graph for the kernels, and the network's size."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

from nas_cntk.architecture import Architecture, Builder
from nas_cntk.errors import ArchitectureError

OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
NODES = 4
# (from, to), in the order of a cell's string.
EDGES = tuple((source, node) for node in range(1, NODES) for source in range(node))
STAGES = 3
# The benchmark's own network: cells a stage, and channels of the first stage.
CELLS = 5
CHANNELS = 16


def parse(text: str) -> tuple[str, ...]:
    """Return the ops of the six edges of "|op~0|+|op~0|op~1|+|op~0|op~1|op~2|", in the order of `EDGES`.

    Raises:
        ArchitectureError: if it is no such string.
    """
    found = []
    for node, part in enumerate(text.strip().split("+"), start=1):
        for at, edge in enumerate(part.strip("|").split("|")):
            op, _, source = edge.partition("~")
            if op not in OPS or source != str(at):
                raise ArchitectureError(f"{text[:100]!r} is no NAS-Bench-201 cell: edge {edge[:30]!r} of node {node}")
            found.append((at, node, op))
    if tuple((source, node) for source, node, _ in found) != EDGES:
        raise ArchitectureError(f"{text[:100]!r} is no NAS-Bench-201 cell: it must have the edges of {NODES} nodes")
    return tuple(op for *_, op in found)


def text_of(ops: Mapping[str, str] | tuple[str, ...]) -> str:
    """Return the string of six ops in the order of `EDGES`, or of a trial's parameters `op_0_1` ... `op_2_3`."""
    if isinstance(ops, Mapping):
        ops = tuple(ops[name_of(edge)] for edge in EDGES)
    edges = [f"{op}~{source}" for op, (source, _) in zip(ops, EDGES, strict=True)]
    parts = itertools.groupby(range(len(EDGES)), key=lambda at: EDGES[at][1])
    return "+".join("|" + "|".join(edges[at] for at in members) + "|" for _, members in parts)


def name_of(edge: tuple[int, int]) -> str:
    """Return the name of an edge's parameter."""
    return f"op_{edge[0]}_{edge[1]}"


def edges_of(text: str) -> dict[str, str]:
    """Return a cell as a trial's parameters."""
    return {name_of(edge): op for edge, op in zip(EDGES, parse(text), strict=True)}


def every() -> Iterator[str]:
    """Return the strings of all 15,625 cells."""
    return (text_of(ops) for ops in itertools.product(OPS, repeat=len(EDGES)))


def is_live(text: str) -> bool:
    """Return whether the cell's output sees its input."""
    return NODES - 1 in _seeing(parse(text))


def pruned(text: str) -> str:
    """Return the cell without the edges that its output does not see or that carry nothing: the same network."""
    ops = parse(text)
    seeing, read = _seeing(ops), {NODES - 1}
    kept = ["none"] * len(EDGES)
    for at, (source, node) in reversed(list(enumerate(EDGES))):
        if ops[at] != "none" and source in seeing and node in read:
            read.add(source)
            kept[at] = ops[at]
    return text_of(tuple(kept))


def _seeing(ops: tuple[str, ...]) -> set[int]:
    """Return the nodes that see the cell's input."""
    seeing = {0}
    for (source, node), op in zip(EDGES, ops, strict=True):
        if op != "none" and source in seeing:
            seeing.add(node)
    return seeing


def convs(text: str) -> int:
    """Return the number of convs in the cell, 0 to 6, whether or not the output sees them."""
    return sum(op.startswith("nor_conv") for op in parse(text))


def architecture(text: str, cells_per_stage: int = 1) -> Architecture:
    """Return the graph whose kernel scores a live cell: no batch norm, no widths.

    Stem conv3x3; three stages of equal cells, joined by a pre-activation residual block (relu, conv3x3 of stride 2,
    relu, conv3x3; shortcut avg_pool 2, conv1x1); relu, global average pooling, dense. `nor_conv` is relu, then conv;
    `avg_pool_3x3` has stride 1 and averages over the pixels inside the map.

    Raises:
        ArchitectureError: if the output does not see the input: its kernel would be 0.

    Source: Dong and Yang (2020), section 2.1.
    """
    if not is_live(text):
        raise ArchitectureError(f"cell {text!r} is dead: its output does not see its input")
    ops = parse(text)
    b = Builder()
    x = b.conv(b.input(), 3)
    for stage in range(STAGES):
        if stage:
            y = b.conv(b.relu(b.conv(b.relu(x), 3, stride=2)), 3)
            x = b.add(y, b.conv(b.avg_pool(x, 2, stride=2), 1))
        for _ in range(cells_per_stage):
            x = _cell(b, x, ops)
    b.dense(b.global_avg_pool(b.relu(x)))
    return b.build()


def sizes(text: str, image_shape: tuple[int, int, int] = (32, 32, 3), num_classes: int = 10) -> tuple[int, int]:
    """Return parameters and multiply-adds of the benchmark's own network of a cell, for images (h, w, c).

    Counted as the benchmark counts: batch norms have parameters and cost nothing, and neither do poolings; edges that
    nothing reads count as others do (`pruned` leaves them out).
    """
    height, width, image_channels = image_shape
    ops = parse(text)
    params = 9 * image_channels * CHANNELS + 2 * CHANNELS
    flops = 9 * image_channels * CHANNELS * height * width
    for stage in range(STAGES):
        c, h, w = CHANNELS << stage, -(-height // (1 << stage)), -(-width // (1 << stage))
        if stage:  # a residual block halves the map: two convs, and one of 1x1 beside them
            before = c // 2
            weights = 9 * before * c + 9 * c * c + before * c
            params += weights + 4 * c  # a batch norm after either conv of 3x3
            flops += weights * h * w
        for op in ops:
            if op.startswith("nor_conv"):
                weights = c * c * (9 if op.endswith("3x3") else 1)
                params += CELLS * (weights + 2 * c)
                flops += CELLS * weights * h * w
    last = CHANNELS << (STAGES - 1)
    return params + 2 * last + (last + 1) * num_classes, flops + (last + 1) * num_classes


def _cell(b: Builder, x: int, ops: tuple[str, ...]) -> int:
    values: dict[int, int] = {0: x}
    for node in range(1, NODES):
        terms = []
        for (source, target), op in zip(EDGES, ops, strict=True):
            if target != node or op == "none" or source not in values:
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
