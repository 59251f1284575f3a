"""Canonical keys: one for every spelling of a function, and different ones for different functions."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from random_architectures import SHAPES, random_architecture

from nas_cntk import Architecture, Builder, canonical, kernel, ops
from nas_cntk.architecture import Node
from nas_cntk.errors import ArchitectureError


def respelled(arch: Architecture, rng: np.random.Generator) -> Architecture:
    """Return the same function in another spelling: order, nesting of adds, duplicates and dead nodes."""
    nodes: list[Node] = []
    where: dict[int, list[int]] = {}  # node of `arch` -> nodes that are it

    def append(op: ops.Op, *inputs: int) -> int:
        nodes.append(Node(op, inputs))
        return len(nodes) - 1

    def some(index: int) -> int:
        return int(rng.choice(where[index]))

    waiting = set(arch.live)
    while waiting:
        ready = sorted(i for i in waiting if all(j in where for j in arch.nodes[i].inputs))
        index = int(rng.choice(ready))
        waiting.remove(index)
        op, inputs = arch.nodes[index].op, list(arch.nodes[index].inputs)
        if isinstance(op, ops.Add):
            read = [some(i) for i in rng.permutation(inputs)]
            while len(read) > 1 and rng.random() < 0.5:  # nest some of them
                cut = int(rng.integers(1, len(read) + 1))
                read = [append(ops.Add(), *read[:cut]), *read[cut:]]
            where[index] = [append(op, *rng.permutation(read).tolist())]
        else:
            where[index] = [append(op, *(some(i) for i in inputs))]
            if isinstance(op, (ops.Relu, ops.AvgPool)) and rng.random() < 0.4:
                where[index].append(append(op, *(some(i) for i in inputs)))
        made = where[index][0]
        if isinstance(op, (ops.Relu, ops.AvgPool, ops.Conv, ops.Add)) and rng.random() < 0.3:
            where[index].append(append(ops.Add(), made))
        if rng.random() < 0.2 and not waiting.isdisjoint(arch.live):
            append(ops.Conv(3), made)
            append(ops.Relu(), len(nodes) - 1)
    if not isinstance(nodes[-1].op, ops.Dense):  # nothing may follow the readout
        raise AssertionError("the readout is made last")
    return Architecture(tuple(nodes))


@pytest.mark.parametrize("chunk", range(10))
def test_spellings_share_one_key(chunk: int) -> None:
    changed = 0
    for seed in range(20 * chunk, 20 * chunk + 20):
        rng = np.random.default_rng(seed)
        _, arch = random_architecture(seed, SHAPES[seed % len(SHAPES)])
        for _ in range(3):
            other = respelled(arch, rng)
            changed += other != arch
            assert other.key == arch.key, f"{seed}: {arch.to_json()} and {other.to_json()}"
    assert changed > 30


def test_equal_keys_have_equal_kernels_and_different_kernels_different_keys() -> None:
    shape = (4, 3, 2)
    x = np.random.default_rng(0).standard_normal((2, *shape))
    of_key: dict[str, np.ndarray] = {}
    for seed in range(7000, 7060):
        _, arch = random_architecture(seed, shape)
        k = np.stack(kernel(arch, x, kind="both", dtype="float64"))
        other = np.stack(kernel(respelled(arch, np.random.default_rng(seed)), x, kind="both", dtype="float64"))
        np.testing.assert_allclose(other, k, rtol=1e-7, atol=1e-9 * np.abs(k).max())
        known = of_key.setdefault(arch.key, k)
        np.testing.assert_allclose(known, k, rtol=1e-7, atol=1e-9 * np.abs(k).max(), err_msg=arch.to_json())
    assert len(of_key) > 50


def key_of(body: Callable[[Builder, int], int], head: str = "flatten", kernel: int = 3) -> str:
    b = Builder()
    x = body(b, b.conv(b.input(), kernel))
    b.dense(b.flatten(x) if head == "flatten" else b.global_avg_pool(x))
    return b.build().key


def test_key_is_hexadecimal() -> None:
    key = key_of(lambda b, x: x)
    assert len(key) == 32 and set(key) <= set("0123456789abcdef")


def test_twins_are_not_one_node_twice() -> None:
    def twins(b: Builder, x: int) -> int:
        return b.add(b.conv(x, 3), b.conv(x, 3))

    def twice(b: Builder, x: int) -> int:
        return b.add(y := b.conv(x, 3), y)

    def once(b: Builder, x: int) -> int:
        return b.conv(x, 3)

    assert len({key_of(twins), key_of(twice), key_of(once)}) == 3


def test_a_relu_made_twice_is_one_node_twice() -> None:
    assert key_of(lambda b, x: b.add(b.relu(x), b.relu(x))) == key_of(lambda b, x: b.add(*[b.relu(x)] * 2))
    assert key_of(lambda b, x: b.add(b.relu(x), b.relu(x))) != key_of(lambda b, x: b.relu(x))


def sums_of_pairs(pairs: list[tuple[int, int]]) -> Callable[[Builder, int], int]:
    """Six twin convs, each pair of `pairs` added and read by a relu and a conv of its own."""

    def body(b: Builder, x: int) -> int:
        twins = [b.conv(b.relu(x), 3) for _ in range(6)]
        return b.add(*(b.conv(b.relu(b.add(twins[i], twins[j])), 3) for i, j in pairs))

    return body


def test_a_hexagon_is_not_two_triangles() -> None:
    """Every twin is read by two sums in both, so colours of inputs and readers alone cannot tell them apart."""
    hexagon = [(i, (i + 1) % 6) for i in range(6)]
    triangles = [(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3)]
    assert key_of(sums_of_pairs(hexagon)) != key_of(sums_of_pairs(triangles))
    rng = np.random.default_rng(0)
    for pairs in (hexagon, triangles):
        for _ in range(5):
            order = rng.permutation(6)
            shuffled = [(int(order[i]), int(order[j])) for i, j in rng.permutation(pairs)]
            assert key_of(sums_of_pairs(shuffled)) == key_of(sums_of_pairs(pairs))


def test_readers_tell_twins_apart() -> None:
    """Hashing over inputs alone would fuse these: which twin goes through which reader."""

    def net(same: bool) -> Callable[[Builder, int], int]:
        def body(b: Builder, x: int) -> int:
            u, v = (b.conv(b.relu(x), 3) for _ in range(2))
            return b.add(b.conv(b.relu(u), 1), b.avg_pool(u if same else v, 3, 1, "same"))

        return body

    assert key_of(net(True)) != key_of(net(False))


def test_every_parameter_matters() -> None:
    nets = [
        key_of(lambda b, x, make=make: make(b, x))
        for make in (
            lambda b, x: b.conv(x, 3),
            lambda b, x: b.conv(x, 1),
            lambda b, x: b.conv(x, 3, 2),
            lambda b, x: b.conv(x, 3, trainable=False),
            lambda b, x: b.relu(x),
            lambda b, x: b.avg_pool(x, 3),
            lambda b, x: b.avg_pool(x, 3, 1, "same"),
            lambda b, x: b.avg_pool(x, 3, 2),
            lambda b, x: b.avg_pool(x, 2),
            lambda b, x: b.add(x, x),
            lambda b, x: b.add(x, x, x),
            lambda b, x: x,
        )
    ]
    nets += [key_of(lambda b, x: x, "global"), key_of(lambda b, x: x, kernel=1)]
    b = Builder()
    b.dense(b.flatten(b.conv(b.input(), 3)), trainable=False)
    nets.append(b.build().key)
    assert len(set(nets)) == len(nets)


def test_defaults_are_filled_in() -> None:
    short = '{"nodes": [{"op": "input"}, {"op": "conv", "kernel": 3, "inputs": [0]}, {"op": "avg_pool", "size": 2,'
    short += ' "inputs": [1]}, {"op": "flatten", "inputs": [2]}, {"op": "dense", "inputs": [3]}]}'
    arch = Architecture.from_json(short)
    assert '"stride": 1, "trainable": true' in arch.to_json()
    assert Architecture.from_json(arch.to_json()).key == arch.key == key_of(lambda b, x: b.avg_pool(x, 2))


def chain(b: Builder, x: int, layers: int = 4995) -> int:
    for _ in range(layers):
        x = b.conv(b.relu(x), 3)
    return x


def doublings(b: Builder, x: int) -> int:
    for _ in range(100):
        x = b.add(x, x)
    return x


def residual_branches(b: Builder, x: int) -> int:
    return b.add(x, *(b.conv(b.relu(b.conv(b.relu(x), 3)), 3) for _ in range(8)))


def twin_convs(b: Builder, x: int) -> int:
    return b.add(*(b.conv(x, 3) for _ in range(100)))


def blocks_of_twins(b: Builder, x: int) -> int:
    for _ in range(20):
        x = b.add(x, *(b.conv(b.relu(x), 3) for _ in range(3)))
    return x


@pytest.mark.parametrize("body", [chain, doublings, residual_branches, twin_convs, blocks_of_twins])
def test_large_and_symmetric_graphs_take_little_work(
    body: Callable[[Builder, int], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canonical, "WORK_LIMIT", 100_000)  # two per edge of a chain of 10,000 nodes are 40,000
    assert key_of(body) == key_of(body)


def test_doublings_are_counted_not_listed() -> None:
    assert key_of(doublings) != key_of(lambda b, x: b.add(doublings(b, x), x))

    def by_four(b: Builder, x: int) -> int:
        for _ in range(50):
            x = b.add(x, x, x, x)
        return x

    assert key_of(doublings) == key_of(by_four)


def test_equal_branches_in_any_order() -> None:
    """Two kinds of branches, interleaved or not, and long equal chains whose ties must be broken."""

    def branches(kernels: list[int]) -> Callable[[Builder, int], int]:
        def body(b: Builder, x: int) -> int:
            tips = [x] * len(kernels)
            for _ in range(4):
                tips = [b.conv(b.relu(tip), k) for tip, k in zip(tips, kernels, strict=True)]
            return b.add(*tips)

        return body

    keys = {key_of(branches(order)) for order in ([1, 1, 1, 3, 3], [3, 1, 3, 1, 1], [1, 3, 1, 1, 3])}
    assert len(keys) == 1 and key_of(branches([1, 1, 3, 3, 3])) not in keys


def lines_of_a_square(b: Builder, x: int) -> int:
    """Twins added along the lines of a square, a strongly regular graph: colours see nothing, and ties go deep."""
    twins = {place: b.conv(b.relu(x), 3) for place in itertools.product(range(8), repeat=2)}
    pairs = [(p, q) for p, q in itertools.combinations(twins, 2) if p[0] == q[0] or p[1] == q[1]]
    return b.add(*(b.conv(b.relu(b.add(twins[p], twins[q])), 3) for p, q in pairs))


@pytest.mark.parametrize("limit", [10**6, pytest.param(canonical.WORK_LIMIT, marks=pytest.mark.slow)])
def test_too_much_symmetry_is_an_error_not_a_hang(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canonical, "WORK_LIMIT", limit)
    with pytest.raises(ArchitectureError, match="too many interchangeable branches") as caught:
        key_of(lines_of_a_square)
    assert "\n" not in str(caught.value)


EDGES = ("none", "skip", "conv1", "conv3", "pool")


def cell(edges: tuple[str, ...]) -> Architecture | None:
    """Return a stem, one NAS-Bench-201 cell and a head, or None where the output does not see the input.

    The edges are 0-1, 0-2, 1-2, 0-3, 1-3, 2-3 of the benchmark, each from the node of its first number.
    """
    b = Builder()
    nodes: list[int | None] = [b.conv(b.input(), 3)]
    by_node = (edges[:1], edges[1:3], edges[3:])
    for incoming in by_node:
        branches = []
        for source, edge in zip(nodes, incoming, strict=True):
            if source is None or edge == "none":
                continue  # nothing, or a conv without biases of nothing
            if edge == "skip":
                branches.append(source)
            elif edge == "pool":
                branches.append(b.avg_pool(source, 3, 1, "same"))
            else:
                branches.append(b.conv(b.relu(source), int(edge[-1])))
        nodes.append(b.add(*branches) if branches else None)
    if nodes[3] is None:
        return None
    b.dense(b.global_avg_pool(b.relu(nodes[3])))
    return b.build()


@pytest.mark.slow
def test_nasbench201_has_5260_different_cells() -> None:
    """All 15,625 cells; the dead ones are one. 4,930 would mean that twins were fused."""
    keys = set()
    for edges in itertools.product(EDGES, repeat=6):
        arch = cell(edges)
        keys.add("dead" if arch is None else arch.key)
    assert len(keys) == 5260


@pytest.mark.parametrize("times, count", [(4, 8000), (1000, 3000)])
def test_sums_of_sums_beyond_any_number_are_an_error(times: int, count: int) -> None:
    """Each add multiplies how often the conv is in the sum; such a number soon has thousands of digits."""
    b = Builder()
    x = b.conv(b.input(), 3)
    for _ in range(count):
        x = b.add(*[x] * times)
    b.dense(b.flatten(x))
    with pytest.raises(ArchitectureError, match="hold one branch more than 10.4000 times"):
        b.build().key  # noqa: B018
