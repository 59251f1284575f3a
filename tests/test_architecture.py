"""Architectures: JSON in and out, what is refused and how it is said, shapes, cost and the builder."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_architectures import SHAPES, random_architecture

from nas_cntk import Architecture, Builder
from nas_cntk.errors import ArchitectureError, IllegalArchitecture

INPUT = {"op": "input"}
HEAD = [{"op": "flatten", "inputs": [1]}, {"op": "dense", "inputs": [2]}]


def conv(*inputs: object, kernel: object = 3, **more: object) -> dict[str, object]:
    return {"op": "conv", "kernel": kernel, "inputs": list(inputs) or [0], **more}


def node(op: str, *inputs: object, **more: object) -> dict[str, object]:
    return {"op": op, "inputs": list(inputs), **more}


def net(*nodes: object) -> dict[str, object]:
    """An architecture of these nodes after the image."""
    return {"nodes": [INPUT, *nodes]}


EXAMPLE = """{"nodes": [{"op": "input"},
           {"op": "conv", "kernel": 3, "stride": 1, "trainable": true, "inputs": [0]},
           {"op": "relu", "inputs": [1]},
           {"op": "add", "inputs": [1, 2]},
           {"op": "avg_pool", "size": 2, "stride": 2, "padding": "valid", "inputs": [3]},
           {"op": "conv", "kernel": 3, "inputs": [4]},
           {"op": "global_avg_pool", "inputs": [5]}, {"op": "dense", "trainable": true, "inputs": [6]}]}"""

# name -> (text or object, what the one line says); `SYNTAX` is no architecture at all, `GRAMMAR` has no exact kernel.
SYNTAX: dict[str, tuple[Any, str]] = {
    "empty text": ("", "not JSON"),
    "blank text": (" \n ", "not JSON"),
    "no JSON": ("conv3-relu", "not JSON"),
    "half a file": (EXAMPLE[:100], "not JSON"),
    "trailing text": (EXAMPLE + "x", "not JSON"),
    "not UTF-8": (b"\xff\xfe\x00{", "not JSON"),
    "UTF-8 with a mark": (b"\xef\xbb\xbf\xff", "not JSON"),
    "number": ("3", "expected an object"),
    "null": ("null", "expected an object"),
    "list": ("[]", "expected an object"),
    "string": ('"nodes"', "expected an object"),
    "none": (None, "expected an object"),
    "empty object": ("{}", '"nodes"'),
    "other object": ('{"layers": []}', '"nodes"'),
    "extra field beside nodes": ({"nodes": [INPUT, conv(), *HEAD], "name": "x"}, "unknown field 'name'"),
    "nodes is an object": ({"nodes": {}}, '"nodes" must be a list, got dict'),
    "nodes is null": ({"nodes": None}, '"nodes" must be a list, got NoneType'),
    "nodes is a string": ({"nodes": "input"}, '"nodes" must be a list, got str'),
    "no nodes": ({"nodes": []}, "without nodes"),
    "node is null": (net(None, *HEAD), "node 1 must be an object, got NoneType"),
    "node is a list": (net([], *HEAD), "node 1 must be an object, got list"),
    "node is a string": (net("relu", *HEAD), "node 1 must be an object, got str"),
    "empty node": (net({}, *HEAD), "node 1 has an unknown op"),
    "unknown op": (net(node("max_pool", 0), *HEAD), "node 1 has an unknown op 'max_pool'; known ops: add, avg_pool"),
    "op is a number": (net(node(3, 0), *HEAD), "node 1 has an unknown op '3'"),  # type: ignore[arg-type]
    "op is a list": (net({"op": ["conv"]}, *HEAD), "node 1 has an unknown op"),
    "op in capitals": (net(node("Conv", 0), *HEAD), "node 1 has an unknown op 'Conv'"),
    "op is very long": (net(node("x" * 10**6, 0), *HEAD), "node 1 has an unknown op 'xxx"),
    "no kernel": (net(node("conv", 0), *HEAD), r"node 1 \(conv\) lacks the field 'kernel'"),
    "no size": (net(node("avg_pool", 0), *HEAD), r"node 1 \(avg_pool\) lacks the field 'size'"),
    "extra field": (net(conv(dilation=2), *HEAD), r"node 1 \(conv\) has an unknown field 'dilation'; known: kernel"),
    "field of another op": (net(conv(), node("relu", 1, kernel=3)), r"node 2 \(relu\) has an unknown field 'kernel'"),
    "input with inputs": ({"nodes": [node("input", 0), conv(), *HEAD]}, r"node 0 \(input\) reads 1 inputs, expected 0"),
    "no inputs": (net({"op": "conv", "kernel": 3}, *HEAD), r"node 1 \(conv\) reads 0 inputs, expected 1"),
    "two inputs": (net(conv(0, 0), *HEAD), r"node 1 \(conv\) reads 2 inputs, expected 1"),
    "relu of two": (net(conv(), node("relu", 1, 1)), r"node 2 \(relu\) reads 2 inputs, expected 1"),
    "add of nothing": (net(node("add"), *HEAD), r"node 1 \(add\) reads 0 inputs, expected 1 or more"),
    "inputs is a number": (net({"op": "conv", "kernel": 3, "inputs": 0}, *HEAD), '"inputs" must be a list, got int'),
    "inputs is null": (net({"op": "relu", "inputs": None}, *HEAD), '"inputs" must be a list, got NoneType'),
    "inputs is a string": (net({"op": "relu", "inputs": "0"}, *HEAD), '"inputs" must be a list, got str'),
    "input is a float": (net(conv(0.0), *HEAD), r"node 1 \(conv\): inputs must be indices of nodes"),
    "input is true": (net(conv(False), *HEAD), r"node 1 \(conv\): inputs must be indices of nodes"),
    "input is a string": (net(conv("0"), *HEAD), r"node 1 \(conv\): inputs must be indices of nodes"),
    "input is null": (net(conv(None), *HEAD), r"node 1 \(conv\): inputs must be indices of nodes"),
    "input is a list": (net(conv([0]), *HEAD), r"node 1 \(conv\): inputs must be indices of nodes"),
    "cycle of one": (net(conv(1), *HEAD), r"node 1 \(conv\) reads node 1, which is not an earlier node"),
    "cycle of two": (net(node("add", 0, 2), conv(1), *HEAD), r"node 1 \(add\) reads node 2, which is not an earlier"),
    "negative input": (net(conv(-1), *HEAD), r"node 1 \(conv\) reads node -1, which is not an earlier node"),
    "input out of range": (net(conv(7), *HEAD), r"node 1 \(conv\) reads node 7, which is not an earlier node"),
    "input of absurd size": (net(conv(10**5000), *HEAD), r"node 1 \(conv\) reads .*not an earlier node"),
    "kernel 0": (net(conv(kernel=0), *HEAD), r"node 1 \(conv\): kernel must be from 1 to 1023, got 0"),
    "kernel negative": (net(conv(kernel=-3), *HEAD), r"node 1 \(conv\): kernel must be from 1 to 1023, got -3"),
    "kernel even": (net(conv(kernel=4), *HEAD), r"node 1 \(conv\): kernel must be odd"),
    "kernel 10^9": (net(conv(kernel=10**9), *HEAD), r"node 1 \(conv\): kernel must be from 1 to 1023, got 1000000000"),
    "kernel 10^5000": (net(conv(kernel=10**5000), *HEAD), r"node 1 \(conv\): kernel must be from 1 to 1023"),
    "kernel 3.0": (net(conv(kernel=3.0), *HEAD), r"node 1 \(conv\): kernel must be a whole number, got 3.0"),
    "kernel true": (net(conv(kernel=True), *HEAD), r"node 1 \(conv\): kernel must be a whole number, got True"),
    "kernel string": (net(conv(kernel="3"), *HEAD), r"node 1 \(conv\): kernel must be a whole number, got '3'"),
    "kernel null": (net(conv(kernel=None), *HEAD), r"node 1 \(conv\): kernel must be a whole number, got None"),
    "kernel list": (net(conv(kernel=[3, 3]), *HEAD), r"node 1 \(conv\): kernel must be a whole number, got \[3, 3\]"),
    "kernel object": (net(conv(kernel={}), *HEAD), r"node 1 \(conv\): kernel must be a whole number"),
    "stride 0": (net(conv(stride=0), *HEAD), r"node 1 \(conv\): stride must be from 1 to 1023, got 0"),
    "stride null": (net(conv(stride=None), *HEAD), r"node 1 \(conv\): stride must be a whole number"),
    "trainable 1": (net(conv(trainable=1), *HEAD), r"node 1 \(conv\): trainable must be true or false, got 1"),
    "trainable string": (net(conv(trainable="true"), *HEAD), r"node 1 \(conv\): trainable must be true or false"),
    "trainable null": (net(conv(trainable=None), *HEAD), r"node 1 \(conv\): trainable must be true or false"),
    "dense trainable 0": (
        net(conv(), HEAD[0], node("dense", 2, trainable=0)),
        r"node 3 \(dense\): trainable must be true or false",
    ),
    "pool size 0": (net(node("avg_pool", 0, size=0), *HEAD), r"node 1 \(avg_pool\): size must be from 1 to 1023"),
    "pool same even": (net(node("avg_pool", 0, size=2, padding="same"), *HEAD), r"node 1 \(avg_pool\): size .*odd"),
    "padding full": (net(node("avg_pool", 0, size=2, padding="full"), *HEAD), r'node 1.*"valid" or "same", got'),
    "padding 1": (net(node("avg_pool", 0, size=2, padding=1), *HEAD), r'node 1.*"valid" or "same", got'),
    "padding null": (net(node("avg_pool", 0, size=2, padding=None), *HEAD), r'node 1.*"valid" or "same", got'),
    "a dead node with a bad size": (net(conv(), conv(0, kernel=2), *HEAD), r"node 2 \(conv\): kernel must be odd"),
    "kernel NaN": (json.dumps(net(conv(kernel=float("nan")), *HEAD)), r"node 1|not JSON"),
    "kernel Infinity": (json.dumps(net(conv(kernel=float("inf")), *HEAD)), r"node 1|not JSON"),
    "kernel 1e400": (json.dumps(net(conv(), *HEAD)).replace('"kernel": 3', '"kernel": 1e400'), "node 1"),
    "kernel of 5,000 digits": (
        json.dumps(net(conv(), *HEAD)).replace('"kernel": 3', f'"kernel": 1{"0" * 5000}'),
        "not JSON|node 1",
    ),
    "duplicate keys": (json.dumps(net(conv(), *HEAD)).replace('"kernel": 3', '"kernel": 3, "kernel": 5'), "kernel"),
    "duplicate nodes": ('{"nodes": [], ' + json.dumps(net(conv(), *HEAD))[1:], "nodes"),
    "deep nesting": ("[" * 100_000, "JSON"),
    "deep nesting, closed": ('{"nodes": ' + "[" * 50_000 + "]" * 50_000 + "}", "nested too deeply|must be"),
    "deep nesting in a field": (
        '{"nodes": [{"op": ' + '{"a":' * 50_000 + "1" + "}" * 50_000 + "}]}",
        "nested|unknown op",
    ),
    "too many nodes": (net(*[conv()] * 10_000, *HEAD), "10003 nodes; at most 10000"),
    "a huge file": (" " * (64 * 2**20 + 1), "at most"),
}

GRAMMAR: dict[str, tuple[dict[str, object], str]] = {
    "no head": (net(conv(), node("dense", 1)), r"node 2 \(dense\) reads a map; put flatten or global_avg_pool before"),
    "dense of the image": (net(node("dense", 0)), r"node 1 \(dense\) reads a map"),
    "two heads": (net(conv(), HEAD[0], node("global_avg_pool", 2), node("dense", 3)), r"node 3 \(global_avg_pool\)"),
    "sum of heads": (net(conv(), HEAD[0], node("add", 2, 2), node("dense", 3)), r"node 3 \(add\) reads a vector"),
    "conv after the head": (net(conv(), HEAD[0], conv(2), node("dense", 3)), r"node 3 \(conv\) reads a vector"),
    "two readouts": (net(conv(), *HEAD, node("dense", 3)), r"node 4 \(dense\).*exactly one dense|node 4 \(dense\)"),
    "dense in the middle": (net(conv(), *HEAD, node("relu", 3)), "the last node is relu; it must be dense"),
    "dense not last": (net(conv(), *HEAD, conv(0)), "the last node is conv; it must be dense"),
    "only the image": (net(), "the last node is input; it must be dense"),
    "two images": (
        net(INPUT, conv(0), conv(1), node("add", 2, 3), node("flatten", 4), node("dense", 5)),
        r"node 1 \(input\) is a second input",
    ),
    "relu on the image": (net(node("relu", 0), *HEAD), r"node 1 \(relu\) reads the raw image; put a conv"),
    "relu on the pooled image": (
        net(node("avg_pool", 0, size=2), node("relu", 1), node("flatten", 2), node("dense", 3)),
        r"node 2 \(relu\) reads the raw image",
    ),
    "relu on a relu": (
        net(conv(), node("relu", 1), node("relu", 2), node("flatten", 3), node("dense", 4)),
        r"node 3 \(relu\) reads a sum or an average that contains a relu output.*pre-activation",
    ),
    "post-activation block": (
        net(conv(), node("relu", 1), conv(2), node("add", 2, 3), node("relu", 4), node("flatten", 5), node("dense", 6)),
        r"node 5 \(relu\) reads a sum or an average that contains a relu.*pre-activation form: relu, conv, then add",
    ),
    "relu on a pooled relu": (
        net(
            conv(), node("relu", 1), node("avg_pool", 2, size=1), node("relu", 3), node("flatten", 4), node("dense", 5)
        ),
        r"node 4 \(relu\) reads a sum or an average that contains a relu output",
    ),
    "add of the image": (net(conv(), node("add", 0, 1), node("flatten", 2), node("dense", 3)), r"node 2 \(add\) adds"),
    "image twice": (net(node("add", 0, 0), *HEAD), r"node 1 \(add\) adds the raw image"),
    "add of the pooled image": (
        net(node("avg_pool", 0, size=1), conv(), node("add", 1, 2), node("flatten", 3), node("dense", 4)),
        r"node 3 \(add\) adds the raw image",
    ),
}

UNFIT: dict[str, tuple[dict[str, object], tuple[int, int, int], str]] = {
    "valid window": (net(node("avg_pool", 0, size=5), *HEAD), (4, 9, 1), r"node 1 \(avg_pool\): a 5x5 window .* 4x9"),
    "window after a stride": (
        net(conv(stride=3), node("avg_pool", 1, size=3), node("flatten", 2), node("dense", 3)),
        (6, 6, 3),
        r"node 2 \(avg_pool\): a 3x3 window .* 2x2 map; take a smaller size or padding",
    ),
    "sum of two sizes": (
        net(conv(), conv(stride=2), node("add", 1, 2), node("flatten", 3), node("dense", 4)),
        (4, 4, 1),
        r"node 3 \(add\): add reads maps of different sizes, 4x4 and 2x2",
    ),
}


@pytest.mark.parametrize("name", list(SYNTAX))
def test_text_that_is_no_architecture(name: str) -> None:
    document, message = SYNTAX[name]
    forms = [document]
    if isinstance(document, dict) and "10^5000" not in name and "absurd" not in name:
        forms.append(json.dumps(document))
    for form in forms:
        with pytest.raises(ArchitectureError, match=message) as caught:
            Architecture.from_json(form)
        assert not isinstance(caught.value, IllegalArchitecture)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("name", list(GRAMMAR))
def test_graphs_without_an_exact_kernel(name: str) -> None:
    document, message = GRAMMAR[name]
    for form in (document, json.dumps(document), json.dumps(document).encode()):
        with pytest.raises(IllegalArchitecture, match=message) as caught:
            Architecture.from_json(form)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", list(UNFIT))
def test_sizes_that_do_not_fit_the_image(name: str) -> None:
    document, image_shape, message = UNFIT[name]
    arch = Architecture.from_json(document)
    for ask in (arch.check, arch.shapes, lambda shape: arch.count_flops(shape, 10)):
        with pytest.raises(IllegalArchitecture, match=message) as caught:
            ask(image_shape)
        assert "\n" not in str(caught.value)
    arch.check((20, 20, 1)) if "two sizes" not in name else arch.check((1, 1, 1))


def test_what_dead_nodes_break_does_not_matter() -> None:
    """Nodes that nobody reads are legal and dropped first, even if no exact kernel would exist for them."""
    document = net(
        conv(), node("relu", 0), node("add", 0, 1), INPUT, node("dense", 0), node("flatten", 1), node("dense", 6)
    )
    arch = Architecture.from_json(document)
    assert arch.live == (0, 1, 6, 7)
    assert arch.key == Architecture.from_json(net(conv(), *HEAD)).key
    assert arch.shapes((5, 4, 1)) == ((5, 4), (5, 4), (), (), (), (), (), ())


def test_the_example() -> None:
    arch = Architecture.from_json(EXAMPLE)
    assert arch.shapes((9, 6, 3)) == ((9, 6), (9, 6), (9, 6), (9, 6), (4, 3), (4, 3), (), ())
    assert arch.trainable and arch.live == tuple(range(8))
    assert json.loads(arch.to_json())["nodes"][5] == {
        "op": "conv", "kernel": 3, "stride": 1, "trainable": True, "inputs": [4]
    }  # fmt: skip
    assert arch == Architecture.from_json(EXAMPLE.encode()) == Architecture.from_json(json.loads(EXAMPLE))
    assert hash(arch) == hash(Architecture.from_json(EXAMPLE))
    with pytest.raises(IllegalArchitecture, match="node 8"):
        nodes = json.loads(EXAMPLE)["nodes"]
        Architecture.from_json({"nodes": [*nodes, node("relu", 3), node("flatten", 8), node("dense", 9)]})


def test_architectures_are_values() -> None:
    arch = Architecture.from_json(EXAMPLE)
    key = arch.key
    for copied in (pickle.loads(pickle.dumps(arch)), copy.deepcopy(arch)):
        assert copied == arch and copied.key == key
    with pytest.raises(AttributeError):
        arch.nodes = ()  # type: ignore[misc]


def test_the_builder_builds_the_example() -> None:
    b = Builder()
    x = b.conv(b.input(), 3)
    x = b.avg_pool(b.add(x, b.relu(x)), 2, 2)
    b.dense(b.global_avg_pool(b.conv(x, 3)))
    # The builder numbers nodes in the order of the calls.
    assert b.build() == Architecture.from_json(EXAMPLE)


@pytest.mark.parametrize("seed", range(0, 200, 10))
def test_json_round_trip(seed: int) -> None:
    for s in range(seed, seed + 10):
        _, arch = random_architecture(s, SHAPES[s % len(SHAPES)])
        again = Architecture.from_json(arch.to_json())
        assert again == arch and again.key == arch.key and again.to_json() == arch.to_json()


def test_ten_thousand_nodes_are_read() -> None:
    nodes = [conv(i) if i % 2 == 0 else node("relu", i) for i in range(9996)]
    text = json.dumps(net(*nodes, conv(9996), node("flatten", 9997), node("dense", 9998)))
    arch = Architecture.from_json(text)
    assert len(arch.nodes) == 10_000
    assert len(arch.shapes((8, 8, 1))) == 10_000
    assert arch.count_parameters((8, 8, 1), 10, 4) == 9 * 4 + 4998 * 9 * 16 + 4 * 64 * 10
    assert Architecture.from_json(arch.to_json()) == arch


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-2, 12)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["input", "conv", "relu", "avg_pool", "add", "flatten", "global_avg_pool", "dense", "valid", "same"]
    ),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(
            st.sampled_from(["op", "inputs", "kernel", "stride", "size", "padding", "trainable", "nodes"])
            | st.text(max_size=5),
            inner,
            max_size=6,
        )
    ),
    max_leaves=30,
)


def reads_or_refuses(document: object) -> None:
    """The only outcomes: an architecture that survives a round trip, or one line of the right family."""
    try:
        arch = Architecture.from_json(document)  # type: ignore[arg-type]
    except ArchitectureError as error:
        assert str(error) and "\n" not in str(error) and len(str(error)) < 400
    else:
        again = Architecture.from_json(arch.to_json())
        assert again == arch and again.key == arch.key
        try:
            shapes = arch.shapes((4, 3, 2))
        except IllegalArchitecture as error:
            assert "\n" not in str(error)
        else:
            assert shapes[arch.live[-1]] == ()


@settings(max_examples=300, deadline=None)
@given(ANYTHING)
def test_fuzz_with_any_value(document: object) -> None:
    reads_or_refuses(document)
    reads_or_refuses({"nodes": document})
    reads_or_refuses(json.dumps(document))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=60))
def test_fuzz_with_any_text(text: bytes | str) -> None:
    reads_or_refuses(text)


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 10**6), st.data())
def test_fuzz_with_mutations(seed: int, data: st.DataObject) -> None:
    """One to three values of a valid architecture replaced, removed, doubled or moved."""
    rng = np.random.default_rng(seed)
    document = json.loads(random_architecture(seed % 500, SHAPES[seed % len(SHAPES)])[1].to_json())
    for _ in range(data.draw(st.integers(1, 3))):
        nodes = document["nodes"]
        if not nodes:
            break
        at = int(rng.integers(len(nodes)))
        entry = nodes[at]
        kind = data.draw(st.integers(0, 5))
        if kind == 0:
            del nodes[at]
        elif kind == 1:
            nodes.insert(at, copy.deepcopy(entry))
        elif kind == 2:
            nodes.append(nodes.pop(at))
        elif kind == 3 and isinstance(entry, dict) and entry:
            field = sorted(entry)[int(rng.integers(len(entry)))]
            del entry[field]
        elif kind == 4 and isinstance(entry, dict) and entry:
            field = sorted(entry)[int(rng.integers(len(entry)))]
            entry[field] = data.draw(ANYTHING)
        elif isinstance(entry, dict) and isinstance(entry.get("inputs"), list):
            entry["inputs"] = data.draw(st.lists(st.integers(-1, len(nodes) + 1), max_size=4))
    reads_or_refuses(document)
    reads_or_refuses(json.dumps(document))
