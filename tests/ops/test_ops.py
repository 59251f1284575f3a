"""One suite for all ops: parameters, shapes, windows and costs, each against torch's own layers or a definition."""

from __future__ import annotations

import json
import math
from dataclasses import fields

import numpy as np
import pytest

from nas_cntk import Architecture, Builder, finite_network, ops
from nas_cntk.errors import ArchitectureError, IllegalArchitecture
from nas_cntk.ops.relu import k0, k1

MAPS = [(1, 1), (1, 7), (4, 1), (2, 2), (5, 4), (7, 7), (6, 9), (13, 8)]
CONVS = [ops.Conv(kernel, stride) for kernel in (1, 3, 5, 7, 15, 101) for stride in (1, 2, 3, 5, 20)]
POOLS = [
    *(ops.AvgPool(size, stride) for size in (1, 2, 3, 4, 7) for stride in (1, 2, 3, 5, 20)),
    *(ops.AvgPool(size, stride, "same") for size in (1, 3, 5, 15, 101) for stride in (1, 2, 3, 5, 20)),
]


def test_every_op_is_listed_once() -> None:
    names = [op.NAME for op in ops.ALL]
    assert sorted(names) == sorted(["input", "conv", "relu", "avg_pool", "add", "global_avg_pool", "flatten", "dense"])
    assert len(set(ops.ALL)) == len(ops.ALL)


BAD = [0, -1, 1024, 10**9, 10**5000, True, False, 1.0, 3.5, float("nan"), math.inf, "3", None, [3], {}]


@pytest.mark.parametrize(
    "make",
    [
        lambda value: ops.Conv(value),
        lambda value: ops.Conv(3, value),
        lambda value: ops.AvgPool(value),
        lambda value: ops.AvgPool(2, value),
        lambda value: ops.AvgPool(value, 1, "same"),
    ],
    ids=["kernel", "conv stride", "size", "pool stride", "size same"],
)
def test_sizes_out_of_range_are_refused(make) -> None:
    for value in BAD:
        with pytest.raises(ArchitectureError) as caught:
            make(value).check()
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 120
    make(1).check()
    make(1023).check()


@pytest.mark.parametrize("op", [ops.Conv(2), ops.Conv(1022), ops.AvgPool(2, 1, "same")])
def test_windows_without_a_centre_are_refused(op: ops.Op) -> None:
    with pytest.raises(ArchitectureError, match="odd"):
        op.check()


@pytest.mark.parametrize("value", [0, 1, "true", None, 1.0, []])
def test_flags_are_true_or_false(value) -> None:
    for op in (ops.Conv(3, 1, value), ops.Dense(value)):
        with pytest.raises(ArchitectureError, match="trainable must be true or false"):
            op.check()


@pytest.mark.parametrize("value", ["full", "", "SAME", None, 1, True, ["valid"]])
def test_paddings_are_two(value) -> None:
    with pytest.raises(ArchitectureError, match='padding must be "valid" or "same"'):
        ops.AvgPool(3, 1, value).check()


@pytest.mark.parametrize("op", [*CONVS, *POOLS], ids=str)
def test_output_shapes_are_those_of_the_torch_layer(op: ops.Conv | ops.AvgPool) -> None:
    import torch

    op.check()
    for h, w in MAPS:
        if isinstance(op, ops.AvgPool) and op.padding == "valid" and op.size > min(h, w):
            with pytest.raises(IllegalArchitecture, match=f"{op.size}x{op.size} window .* {h}x{w} map"):
                op.output_shape(((h, w),))
            continue
        weight = torch.zeros(op.weight_shape(2, 3)) if isinstance(op, ops.Conv) else None
        out = op.forward(torch.zeros(1, 2, h, w), weight=weight)
        assert op.output_shape(((h, w),)) == tuple(out.shape[2:])


@pytest.mark.parametrize("op", POOLS, ids=str)
def test_windows_are_what_the_torch_layer_averages(op: ops.AvgPool) -> None:
    import torch

    for length in (1, 4, 7, 9):
        if op.padding == "valid" and op.size > length:
            continue
        # One hot images along a diagonal: what a window holds of each axis.
        image = torch.eye(length)[:, None, None, :].expand(length, 1, length, length)
        means = op.forward(image, weight=None)[:, 0, 0].numpy().T  # shape: (outputs, length)
        windows = op.windows(length)
        assert len(windows) == len(means) == op.output_shape(((length, length),))[0]
        for window, row in zip(windows, means, strict=True):
            expected = np.zeros(length)
            expected[list(window)] = 1 / len(window)
            np.testing.assert_allclose(row, expected, rtol=1e-6)


@pytest.mark.parametrize("op", POOLS, ids=str)
def test_pooling_a_covariance_is_pooling_both_sides(op: ops.AvgPool) -> None:
    import torch

    rng = np.random.default_rng(0)
    h, w = 7, 8
    x, y = rng.standard_normal((2, 3, h, w))
    s = np.einsum("nij,nkl->nijkl", x, y)
    pooled_x, pooled_y = (op.forward(torch.from_numpy(z)[:, None], weight=None)[:, 0].numpy() for z in (x, y))
    got = op.pool(op.pool(s, (1, 2)), (3, 4))
    np.testing.assert_allclose(got, np.einsum("nij,nkl->nijkl", pooled_x, pooled_y), atol=1e-12)


@pytest.mark.parametrize("op", [op for op in CONVS if op.kernel < 100 and op.stride in (1, 2, 3)], ids=str)
def test_the_window_sum_of_a_covariance(op: ops.Conv) -> None:
    """The covariance of a conv's output, over its weights, by one forward a weight: each has variance 1."""
    import torch

    rng = np.random.default_rng(1)
    h, w = 5, 4
    x, y = rng.standard_normal((2, 1, h, w))
    taps = range(max(0, op.kernel // 2 - 4), min(op.kernel, op.kernel // 2 + 5))  # others see nothing of the map
    out = op.output_shape(((h, w),))
    true = np.zeros((*out, *out))
    for a in taps:
        for b in taps:
            weight = torch.zeros(1, 1, op.kernel, op.kernel, dtype=torch.float64)
            weight[0, 0, a, b] = 1
            u, v = (op.forward(torch.from_numpy(z)[:, None], weight=weight)[0, 0].numpy() for z in (x, y))
            true += np.einsum("ij,kl->ijkl", u, v)
    got = op.covariance(np.einsum("nij,nkl->nijkl", x, y))[0]
    np.testing.assert_allclose(got, true, atol=1e-12)


def test_relu_moments_are_the_integrals() -> None:
    """k1 = E[2 relu(u) relu(v)] and k0 = E[2 1(u > 0) 1(v > 0)], over the angle of a Gaussian in the plane."""
    phi = (np.arange(400_000) + 0.5) / 400_000 * 2 * math.pi
    for correlation in (-1.0, -0.999, -0.5, 0.0, 0.3, 0.9, 1.0):
        u, v = np.cos(phi), np.cos(phi - math.acos(correlation))
        # The squared length of a Gaussian in the plane has mean 2, and is independent of its angle.
        np.testing.assert_allclose(
            k1(np.float64(correlation)), (4 * np.maximum(u, 0) * np.maximum(v, 0)).mean(), atol=1e-9
        )
        np.testing.assert_allclose(k0(np.float64(correlation)), (2.0 * (u > 0) * (v > 0)).mean(), atol=1e-5)


def test_relu_takes_the_edges_exactly() -> None:
    relu = ops.Relu()
    one = np.ones((1, 1, 1))
    for sign, ks in ((1.0, (1.0, 1.0)), (-1.0, (0.0, 0.0))):
        s = np.full((1, 1, 1, 1, 1), sign * (1 - 3 * np.finfo(float).eps))
        got = relu.covariance(s, np.ones_like(s), one, one, one=False, aligned=False)
        np.testing.assert_array_equal(np.ravel(got), ks)
    dead = relu.covariance(np.zeros((1, 1, 1, 1, 1)), np.ones((1, 1, 1, 1, 1)), 0 * one, one, one=False, aligned=False)
    np.testing.assert_array_equal(np.ravel(dead), [0.0, 0.0])


def test_relu_keeps_the_variance() -> None:
    import torch

    z = torch.randn(400_000, generator=torch.Generator().manual_seed(0))
    assert ops.Relu().forward(z, weight=None).square().mean().item() == pytest.approx(1, abs=0.01)


def costly() -> Architecture:
    b = Builder()
    x = b.conv(b.input(), 5, 2)
    x = b.add(x, b.conv(b.relu(x), 3, trainable=False))
    b.conv(x, 7)  # dead
    x = b.conv(b.avg_pool(b.relu(x), 2, 2), 1)
    b.dense(b.flatten(b.relu(x)), trainable=False)
    return b.build()


@pytest.mark.parametrize("width", [1, 8, 64])
@pytest.mark.parametrize("gap", [False, True])
def test_costs_are_those_of_the_finite_network(width: int, gap: bool) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    arch = costly()
    if gap:
        arch = Architecture.from_json(arch.to_json().replace('"flatten"', '"global_avg_pool"'))
    shape, classes = (9, 12, 3), 10
    net = finite_network(arch, shape, classes, width)
    assert arch.count_parameters(shape, classes, width) == sum(weight.numel() for weight in net.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 3, 9, 12))
    assert arch.count_flops(shape, classes, width) == counter.get_total_flops() / 2  # a multiply-add counts as two


def test_parameters_of_every_op_are_plain_json() -> None:
    for op_type in ops.ALL:
        for field in fields(op_type):
            assert json.loads(json.dumps(field.name)) == field.name
            assert field.name not in ("op", "inputs")
