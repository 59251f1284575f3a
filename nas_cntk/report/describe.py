"""An architecture in words: one short line, or node by node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields

from nas_cntk.architecture import Architecture
from nas_cntk.ops import Dense, Flatten, GlobalAvgPool, Op

_HEADS = {"global_avg_pool": "global", "flatten": "flatten"}


def summary(architecture: Architecture) -> str:
    """Return, for example, `local 3 · 7 conv 3,5 · 2 pool · 3 add`: the head first, convs with their kernel sizes."""
    nodes = architecture.nodes
    live = architecture.live
    counts = Counter(nodes[index].op.NAME for index in live)
    kernels = sorted({getattr(nodes[index].op, "kernel") for index in live if nodes[index].op.NAME == "conv"})  # noqa: B009
    head_index = nodes[-1].inputs[0]
    head = _HEADS.get(nodes[head_index].op.NAME, nodes[head_index].op.NAME)
    before = nodes[nodes[head_index].inputs[0]].op
    pools = counts["avg_pool"]
    if head == "flatten" and before.NAME == "avg_pool" and getattr(before, "stride", 0) == 1:
        head = f"local {getattr(before, 'size')}"  # noqa: B009
        pools -= 1
    parts = [f"{counts['conv']} conv {','.join(map(str, kernels))}"]
    strided = sum(getattr(nodes[index].op, "stride", 1) > 1 for index in live if nodes[index].op.NAME == "conv")
    parts += [f"{strided} stride"] if strided else []
    parts += [f"{pools} pool"] if pools else []
    parts += [f"{counts['add']} add"] if counts["add"] else []
    return " · ".join([head, *parts])


def listing(architecture: Architecture, image_shape: Sequence[int]) -> list[tuple[str, str, str, str]]:
    """Return (node, op with its parameters, what it reads, output shape) of every live node, in order."""
    shapes = architecture.shapes(image_shape)
    lines = []
    for index in architecture.live:
        node = architecture.nodes[index]
        shape = "x".join(map(str, shapes[index])) or "vector"
        lines.append((str(index), op_words(node.op), ", ".join(map(str, node.inputs)) or "image", shape))
    return lines


def outputs(
    architecture: Architecture,
    image_shape: Sequence[int],
    num_classes: int,
    width: int,
    *,
    times: str = "x",
    thousands: str = "",
) -> dict[int, str]:
    """Return the output of every live node in words, such as 8x8x64, 4096 features, 10 classes.

    Args:
        image_shape: (h, w, c).
        width: channels of the convs.
        times, thousands: what stands between sides, and between thousands.
    """
    shapes, channels = architecture.shapes(image_shape), architecture.channels(image_shape, width)
    found = {}
    for index in architecture.live:
        node = architecture.nodes[index]
        if isinstance(node.op, Dense):
            found[index] = f"{num_classes} classes"
        elif isinstance(node.op, (Flatten, GlobalAvgPool)):
            side = shapes[node.inputs[0]]
            features = channels[index] * node.op.features((side[0], side[1]))
            found[index] = f"{features:{thousands}} features"
        else:
            found[index] = times.join(map(str, (*shapes[index], channels[index])))
    return found


def op_words(op: Op) -> str:
    """Return a node's op with its parameters, for example `conv 3x3 stride 2`."""
    shown = []
    for field in fields(op):
        value = getattr(op, field.name)
        if field.name in ("kernel", "size"):
            shown.append(f"{value}x{value}")
        elif field.name == "stride" and value != 1:
            shown.append(f"stride {value}")
        elif field.name == "padding" and value != "valid":
            shown.append(str(value))
        elif field.name == "trainable" and not value:
            shown.append("frozen")
    return " ".join([op.NAME, *shown])
