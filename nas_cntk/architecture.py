"""The architecture: a frozen DAG of ops, with JSON, shapes, legality, canonical key and cost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

from nas_cntk import canonical, ops
from nas_cntk.errors import ArchitectureError, IllegalArchitecture
from nas_cntk.ops import Op, Shape

MOST_NODES = 10_000
LARGEST_JSON = 64 * 2**20  # characters

_OP_OF_NAME: dict[str, type[Op]] = {op.NAME: op for op in ops.ALL}
_HEADS = (ops.Flatten, ops.GlobalAvgPool)


@dataclass(frozen=True, slots=True)
class Node:
    """An op and the indices of the earlier nodes it reads."""

    op: Op
    inputs: tuple[int, ...] = ()


@dataclass(frozen=True)
class Architecture:
    """A legal architecture: nodes in topological order, the last one the dense readout.

    Raises:
        ArchitectureError: if the nodes are no architecture (unknown op, cycle, wrong arity, sizes out of range).
        IllegalArchitecture: if no exact kernel exists for it; the message names the node and the legal form.
    """

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        _check_nodes(self.nodes)
        _check_grammar(self.nodes, self.live)

    @staticmethod
    def from_json(text: str | bytes | Mapping[str, object]) -> Architecture:
        """Read `{"nodes": [{"op": ..., parameters, "inputs": [...]}, ...]}`.

        Raises:
            ArchitectureError: as the class does, and on text that is no JSON.
        """
        return Architecture(_nodes_of(_document(text)))

    def to_json(self) -> str:
        """Return the nodes as JSON, in the user's spelling, every parameter written out."""
        nodes = []
        for node in self.nodes:
            entry: dict[str, object] = {"op": node.op.NAME}
            entry.update({field.name: getattr(node.op, field.name) for field in fields(node.op)})
            if node.inputs:
                entry["inputs"] = list(node.inputs)
            nodes.append(entry)
        return json.dumps({"nodes": nodes})

    @cached_property
    def live(self) -> tuple[int, ...]:
        """The indices of the nodes that the output sees, in topological order."""
        seen = {len(self.nodes) - 1}
        for index in range(len(self.nodes) - 1, -1, -1):
            if index in seen:
                seen.update(self.nodes[index].inputs)
        return tuple(sorted(seen))

    @cached_property
    def key(self) -> str:
        """The canonical key, 32 hexadecimal digits: equal keys mean equal functions (see `canonical`)."""
        return canonical.key([self.nodes[index] for index in self.live], list(self.live))

    @property
    def trainable(self) -> bool:
        """Whether any layer that the output sees is trained."""
        return any(getattr(self.nodes[index].op, "trainable", False) for index in self.live)

    def shapes(self, image_shape: Sequence[int]) -> tuple[Shape, ...]:
        """Return the output shape of every live node, (h, w) or (); dead nodes have ().

        Args:
            image_shape: (h, w, c).

        Raises:
            IllegalArchitecture: if a node does not fit the image; the message names it.
        """
        shapes: list[Shape] = [()] * len(self.nodes)
        for index in self.live:
            node = self.nodes[index]
            if isinstance(node.op, ops.Input):
                shapes[index] = (int(image_shape[0]), int(image_shape[1]))
                continue
            try:
                shapes[index] = node.op.output_shape(tuple(shapes[i] for i in node.inputs))
            except IllegalArchitecture as error:
                raise IllegalArchitecture(f"node {index} ({node.op.NAME}): {error}") from None
        return tuple(shapes)

    def check(self, image_shape: Sequence[int]) -> None:
        """Raise IllegalArchitecture if the architecture does not fit images of `image_shape` (h, w, c)."""
        self.shapes(image_shape)

    def channels(self, image_shape: Sequence[int], width: int) -> tuple[int, ...]:
        """Return the channels of every live node of the finite network with `width` channels a conv; 0 if dead."""
        channels = [0] * len(self.nodes)
        for index in self.live:
            node = self.nodes[index]
            if isinstance(node.op, ops.Input):
                channels[index] = int(image_shape[2])
            elif isinstance(node.op, ops.Conv):
                channels[index] = width
            else:
                channels[index] = channels[node.inputs[0]]
        return tuple(channels)

    def weights(
        self, image_shape: Sequence[int], num_classes: int, width: int = 64
    ) -> dict[int, tuple[tuple[int, ...], int]]:
        """Return, for every conv and dense, the shape of its weights and its multiply-adds on one image."""
        shapes, channels = self.shapes(image_shape), self.channels(image_shape, width)
        found: dict[int, tuple[tuple[int, ...], int]] = {}
        for index in self.live:
            node = self.nodes[index]
            if isinstance(node.op, ops.Conv):
                reads = channels[node.inputs[0]]
                found[index] = (
                    node.op.weight_shape(reads, width),
                    node.op.multiply_adds(shapes[index], reads, width),
                )
            elif isinstance(node.op, ops.Dense):
                head = self.nodes[node.inputs[0]]
                assert isinstance(head.op, _HEADS)
                features = channels[head.inputs[0]] * head.op.features(shapes[head.inputs[0]])
                found[index] = node.op.weight_shape(features, num_classes), features * num_classes
        return found

    def count_parameters(self, image_shape: Sequence[int], num_classes: int, width: int = 64) -> int:
        """Return the number of weights of the finite network of `width` (it has no biases)."""
        total = 0
        for shape, _ in self.weights(image_shape, num_classes, width).values():
            product = 1
            for side in shape:
                product *= side
            total += product
        return total

    def count_flops(self, image_shape: Sequence[int], num_classes: int, width: int = 64) -> int:
        """Return the multiply-adds of one image in the finite network's convs and readout."""
        return sum(count for _, count in self.weights(image_shape, num_classes, width).values())


class Builder:
    """Builds an architecture node by node; every method returns the new node's index.

    Example:
        >>> b = Builder()
        >>> x = b.relu(b.conv(b.input(), kernel=3))
        >>> b.dense(b.global_avg_pool(x))
        4
        >>> b.build().trainable
        True
    """

    def __init__(self) -> None:
        self._nodes: list[Node] = []

    def node(self, op: Op, *inputs: int) -> int:
        """Append `op` reading `inputs`."""
        self._nodes.append(Node(op, inputs))
        return len(self._nodes) - 1

    def input(self) -> int:
        """Append the image."""
        return self.node(ops.Input())

    def conv(self, x: int, kernel: int, stride: int = 1, trainable: bool = True) -> int:
        """Append a conv of node `x`."""
        return self.node(ops.Conv(kernel, stride, trainable), x)

    def relu(self, x: int) -> int:
        """Append a relu of node `x`."""
        return self.node(ops.Relu(), x)

    def avg_pool(self, x: int, size: int, stride: int = 1, padding: str = "valid") -> int:
        """Append an average pooling of node `x`."""
        return self.node(ops.AvgPool(size, stride, padding), x)

    def add(self, *xs: int) -> int:
        """Append the sum of nodes `xs`."""
        return self.node(ops.Add(), *xs)

    def global_avg_pool(self, x: int) -> int:
        """Append global average pooling of node `x`."""
        return self.node(ops.GlobalAvgPool(), x)

    def flatten(self, x: int) -> int:
        """Append a flattening of node `x`."""
        return self.node(ops.Flatten(), x)

    def dense(self, x: int, trainable: bool = True) -> int:
        """Append the readout of node `x`."""
        return self.node(ops.Dense(trainable), x)

    def build(self) -> Architecture:
        """Return the architecture; raises as `Architecture` does."""
        return Architecture(tuple(self._nodes))


def _document(text: str | bytes | Mapping[str, object]) -> Mapping[str, object]:
    if not isinstance(text, (str, bytes)):
        document: object = text
    else:
        if len(text) > LARGEST_JSON:
            raise ArchitectureError(f"an architecture of {len(text)} characters; at most {LARGEST_JSON} are read")
        try:
            document = json.loads(text, object_pairs_hook=_object)
        except RecursionError:
            raise ArchitectureError("not an architecture: JSON nested too deeply") from None
        except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, and numbers of absurd length
            raise ArchitectureError(f"not JSON: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(document, Mapping) or "nodes" not in document:
        raise ArchitectureError('not an architecture: expected an object {"nodes": [...]}')
    extra = sorted(str(name) for name in document if name != "nodes")
    if extra:
        raise ArchitectureError(f'unknown field {extra[0][:40]!r} beside "nodes"; remove it')
    return document


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise ArchitectureError(f"the field {name[:40]!r} is there twice in one object; keep one")
        found[name] = value
    return found


def _nodes_of(document: Mapping[str, object]) -> tuple[Node, ...]:
    entries = document["nodes"]
    if not isinstance(entries, (list, tuple)):
        raise ArchitectureError(f'"nodes" must be a list, got {type(entries).__name__}')
    if len(entries) > MOST_NODES:
        raise ArchitectureError(f"{len(entries)} nodes; at most {MOST_NODES} are allowed")
    return tuple(_node_of(index, entry) for index, entry in enumerate(entries))


def _node_of(index: int, entry: object) -> Node:
    if not isinstance(entry, Mapping):
        raise ArchitectureError(f"node {index} must be an object, got {type(entry).__name__}")
    name = entry.get("op")
    if not isinstance(name, str) or name not in _OP_OF_NAME:
        raise ArchitectureError(
            f"node {index} has an unknown op {str(name)[:40]!r}; known ops: {', '.join(sorted(_OP_OF_NAME))}"
        )
    op_type = _OP_OF_NAME[name]
    known = {field.name: field for field in fields(op_type)}
    for field in entry:
        if field not in known and field not in ("op", "inputs"):
            allowed = ", ".join([*known, "inputs"])
            raise ArchitectureError(f"node {index} ({name}) has an unknown field {str(field)[:40]!r}; known: {allowed}")
    inputs = entry.get("inputs", [])
    if not isinstance(inputs, (list, tuple)):
        raise ArchitectureError(f'node {index} ({name}): "inputs" must be a list, got {type(inputs).__name__}')
    try:
        op = op_type(**{str(field): entry[field] for field in known if field in entry})
    except TypeError:
        missing = [field for field in known if field not in entry][0]
        raise ArchitectureError(f"node {index} ({name}) lacks the field {missing!r}") from None
    return Node(op, tuple(inputs))


def _check_nodes(nodes: tuple[Node, ...]) -> None:
    if not nodes:
        raise ArchitectureError("an architecture without nodes; it needs at least input, a head and dense")
    if len(nodes) > MOST_NODES:
        raise ArchitectureError(f"{len(nodes)} nodes; at most {MOST_NODES} are allowed")
    for index, node in enumerate(nodes):
        where = f"node {index} ({node.op.NAME})"
        try:
            node.op.check()
        except ArchitectureError as error:
            raise type(error)(f"{where}: {error}") from None
        fewest, most = node.op.ARITY
        if not fewest <= len(node.inputs) <= most:
            wanted = str(fewest) if fewest == most else f"{fewest} or more"
            raise ArchitectureError(f"{where} reads {len(node.inputs)} inputs, expected {wanted}")
        for i in node.inputs:
            if isinstance(i, bool) or not isinstance(i, int):
                raise ArchitectureError(f"{where}: inputs must be indices of nodes, got {str(i)[:40]!r}")
            if not 0 <= i < index:
                raise ArchitectureError(
                    f"{where} reads node {i if abs(i) < 10**9 else 'of an absurd index'},"
                    " which is not an earlier node; list nodes in topological order"
                )


def _check_grammar(nodes: tuple[Node, ...], live: tuple[int, ...]) -> None:
    """Raise IllegalArchitecture unless the live nodes follow the grammar and every relu has a closed form."""
    last = nodes[-1]
    if not isinstance(last.op, ops.Dense):
        raise IllegalArchitecture(f"the last node is {last.op.NAME}; it must be dense, the readout")
    # What a node's value is a sum of: "image", "gaussian" (conv outputs), "relu" (relu outputs), or a vector.
    holds: dict[int, frozenset[str]] = {}
    for index in live:
        op, inputs = nodes[index].op, nodes[index].inputs
        where = f"node {index} ({op.NAME})"
        reads = frozenset().union(*(holds[i] for i in inputs)) if inputs else frozenset[str]()
        if "head" in reads and not isinstance(op, ops.Dense):
            raise IllegalArchitecture(f"{where} reads a vector of features; after the head only dense may follow")
        if "readout" in reads:
            raise IllegalArchitecture(f"{where} reads a readout; there is exactly one dense, and it is the last node")
        if isinstance(op, ops.Input):
            if any(isinstance(nodes[i].op, ops.Input) for i in live if i < index):
                raise IllegalArchitecture(f"{where} is a second input; an architecture has one image")
            holds[index] = frozenset({"image"})
        elif isinstance(op, ops.Conv):
            holds[index] = frozenset({"gaussian"})
        elif isinstance(op, ops.Relu):
            if "image" in reads:
                raise IllegalArchitecture(f"{where} reads the raw image; put a conv between them")
            if "relu" in reads:
                raise IllegalArchitecture(
                    f"{where} reads a sum or an average that contains a relu output, which has no closed form;"
                    " use the pre-activation form: relu, conv, then add"
                )
            holds[index] = frozenset({"relu"})
        elif isinstance(op, ops.Add):
            if "image" in reads and len(inputs) > 1:
                raise IllegalArchitecture(
                    f"{where} adds the raw image to something (their channel counts differ); put a conv between them"
                )
            holds[index] = reads
        elif isinstance(op, _HEADS):
            holds[index] = frozenset({"head"})
        elif isinstance(op, ops.Dense):
            if reads != {"head"}:
                raise IllegalArchitecture(f"{where} reads a map; put flatten or global_avg_pool before it")
            holds[index] = frozenset({"readout"})
        else:
            holds[index] = reads
