"""An architecture as a drawing: layers from top to bottom, branches beside each other.

A relu that alone reads the node before it is drawn in that node's box. Places are units of the view box.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nas_cntk import ops
from nas_cntk.architecture import Architecture
from nas_cntk.report import text
from nas_cntk.report.describe import op_words

BOX, HEIGHT, PITCH, GAP, THREAD = 138, 36, 52, 14, 16  # width and height of a box, distance of layers, of boxes
MOST = 150  # boxes; beyond it a drawing says no more than a list


@dataclass(frozen=True, slots=True)
class Box:
    """A node, at the left upper corner."""

    x: float
    y: float
    kind: str  # of the op, which says the colour
    name: str
    detail: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """Boxes and the curves between them."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    curves: tuple[str, ...]  # paths
    description: str


@dataclass(frozen=True, slots=True)
class _Item:
    """What takes a place in a layer: a box, or the thread of an edge that passes by."""

    layer: int
    node: int | None
    above: tuple[int, ...]  # items that it hangs from
    width: float


def drawing(
    architecture: Architecture, image_shape: Sequence[int], num_classes: int, width: int = 64
) -> Drawing | None:
    """Return the drawing of an architecture at `width` channels; None if it has too many nodes to draw."""
    groups, owner = _groups(architecture)
    if len(groups) > MOST:
        return None
    reads = {first: tuple(dict.fromkeys(owner[i] for i in architecture.nodes[first].inputs)) for first in groups}
    layers: dict[int, int] = {}
    for first in groups:
        layers[first] = 1 + max((layers[i] for i in reads[first]), default=-1)
    items, at = _items(groups, reads, layers)
    places = _places(items)
    left = min(places[i] - item.width / 2 for i, item in enumerate(items))
    right = max(places[i] + item.width / 2 for i, item in enumerate(items))
    boxes, curves = [], []
    for first, members in groups.items():
        x, y = places[at[first]] - left - BOX / 2 + 1, layers[first] * PITCH + 1
        name = " → ".join(op_words(architecture.nodes[i].op) for i in members)
        detail = _detail(architecture, members, image_shape, num_classes, width)
        boxes.append(Box(round(x, 1), y, architecture.nodes[first].op.NAME, name, detail))
    for i, item in enumerate(items):
        for parent in item.above:
            start = (places[parent] - left + 1, items[parent].layer * PITCH + 1, items[parent].node is not None)
            end = (places[i] - left + 1, item.layer * PITCH + 1, item.node is not None)
            curves.append(_curve(start, end))
    height = max(layers.values()) * PITCH + HEIGHT + 2
    said = "; ".join(f"{box.name} ({box.detail})" for box in boxes)
    return Drawing(round(right - left + 2, 1), height, tuple(boxes), tuple(curves), f"From top to bottom: {said}.")


def _groups(architecture: Architecture) -> tuple[dict[int, list[int]], dict[int, int]]:
    """Return the nodes of every box by its first node, and the first node of every node's box."""
    readers: dict[int, int] = {}
    for index in architecture.live:
        for i in architecture.nodes[index].inputs:
            readers[i] = readers.get(i, 0) + 1
    groups: dict[int, list[int]] = {}
    owner: dict[int, int] = {}
    for index in architecture.live:
        node = architecture.nodes[index]
        before = node.inputs[0] if node.inputs else None
        if isinstance(node.op, ops.Relu) and before is not None and readers[before] == 1:
            owner[index] = owner[before]
            groups[owner[before]].append(index)
        else:
            owner[index] = index
            groups[index] = [index]
    return groups, owner


def _items(
    groups: dict[int, list[int]], reads: dict[int, tuple[int, ...]], layers: dict[int, int]
) -> tuple[list[_Item], dict[int, int]]:
    items: list[_Item] = []
    at: dict[int, int] = {}
    for first in sorted(groups, key=lambda node: (layers[node], node)):
        above = []
        for parent in reads[first]:
            last = at[parent]
            for layer in range(layers[parent] + 1, layers[first]):
                items.append(_Item(layer, None, (last,), THREAD))
                last = len(items) - 1
            above.append(last)
        at[first] = len(items)
        items.append(_Item(layers[first], first, tuple(above), BOX))
    return items, at


def _places(items: Sequence[_Item]) -> list[float]:
    """Return the middle of every item: below what it hangs from, none over another."""
    places = [0.0] * len(items)
    for layer in range(1 + max(item.layer for item in items)):
        own = [i for i, item in enumerate(items) if item.layer == layer]
        wanted = {}
        for i in own:
            above = [p for p in items[i].above if items[p].node is not None] or list(items[i].above)
            wanted[i] = sum(places[p] for p in above) / len(above) if above else 0.0
        # Threads go outside of the boxes that hang from the same one.
        own.sort(key=lambda i: (wanted[i], items[i].node is None, i))
        edge = 0.0
        for i in own:
            places[i] = edge + items[i].width / 2
            edge += items[i].width + GAP
        firm = [i for i in own if items[i].node is not None] or own
        shift = sum(wanted[i] - places[i] for i in firm) / len(firm)
        for i in own:
            places[i] += shift
    return places


def _curve(start: tuple[float, float, bool], end: tuple[float, float, bool]) -> str:
    # A thread runs along its layer's box height, so that it keeps clear of the boxes beside it.
    x1, top, is_box = start
    x2, y2, _ = end
    y1 = top + HEIGHT
    middle = (y1 + y2) / 2
    before = "" if is_box else f"M{x1:.1f} {top:.1f}V{y1:.1f}"
    return f"{before}M{x1:.1f} {y1:.1f}C{x1:.1f} {middle:.1f} {x2:.1f} {middle:.1f} {x2:.1f} {y2:.1f}"


def _detail(
    architecture: Architecture, members: Sequence[int], image_shape: Sequence[int], num_classes: int, width: int
) -> str:
    """Return the output's shape and the number of weights of a box."""
    shapes, channels = architecture.shapes(image_shape), architecture.channels(image_shape, width)
    last = members[-1]
    node = architecture.nodes[last]
    if isinstance(node.op, ops.Dense):
        said = f"{num_classes} classes"
    elif isinstance(node.op, (ops.Flatten, ops.GlobalAvgPool)):
        side = shapes[node.inputs[0]]
        said = f"{channels[last] * node.op.features((side[0], side[1])):,} features"
    else:
        said = "×".join(map(str, (*shapes[last], channels[last])))
    weights = architecture.weights(image_shape, num_classes, width).get(members[0])
    return said if weights is None else f"{said} · {text.count(math.prod(weights[0]))}"
