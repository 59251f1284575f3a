"""The network that people train: its parts, initialisation and topology."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from random_architectures import SHAPES, random_architecture
from torch.nn import functional

from nas_cntk import Architecture, Builder, ops
from nas_cntk.errors import IllegalArchitecture, UsageError
from nas_cntk.validate.standard import StandardNetwork, standard_network


def plain(trainable: bool = True) -> Architecture:
    b = Builder()
    x = b.relu(b.conv(b.input(), 3, 2, trainable=False))
    b.conv(x, 5)  # dead
    x = b.add(x, b.conv(x, 1), x)
    b.dense(b.flatten(x), trainable)
    return b.build()


def test_the_formula_by_hand() -> None:
    net = standard_network(plain(), (5, 4, 2), 3, width=6, batch_norm=False, seed=0)
    x = torch.randn(7, 2, 5, 4, generator=torch.Generator().manual_seed(1))
    state = net.state_dict()
    assert list(state) == ["conv_1.weight", "conv_1.bias", "conv_4.weight", "conv_4.bias", "dense_7.weight",
                           "dense_7.bias"]  # fmt: skip
    for name in ("conv_1.bias", "conv_4.bias", "dense_7.bias"):
        assert not state[name].any()
        state[name].normal_()  # of the module itself
    relu = functional.conv2d(x, state["conv_1.weight"], state["conv_1.bias"], 2, 1).clamp(min=0)
    features = (2 * relu + functional.conv2d(relu, state["conv_4.weight"], state["conv_4.bias"])).flatten(1)
    torch.testing.assert_close(net(x), features @ state["dense_7.weight"].T + state["dense_7.bias"])


def test_batch_norm_follows_every_conv() -> None:
    net = standard_network(plain(), (5, 4, 2), 3, width=6, seed=0)
    assert "conv_1.bias" not in net.state_dict()
    x = torch.randn(7, 2, 5, 4, generator=torch.Generator().manual_seed(1))
    conv = functional.conv2d(x, net.state_dict()["conv_1.weight"], None, 2, 1)
    normed = functional.batch_norm(conv, None, None, training=True)
    seen: list[torch.Tensor] = []
    net.get_submodule("norm_1").register_forward_hook(lambda _m, _i, out: seen.append(out))
    net.train()(x)
    torch.testing.assert_close(seen[0], normed)


def test_he_initialisation() -> None:
    b = Builder()
    b.dense(b.flatten(b.relu(b.conv(b.relu(b.conv(b.input(), 3)), 5))))
    net = standard_network(b.build(), (6, 6, 3), 10, width=64, seed=0)
    for name, fan_in, gain in (("conv_1", 27, 2), ("conv_3", 64 * 25, 2), ("dense_6", 64 * 36, 1)):
        weight = net.state_dict()[f"{name}.weight"]
        assert weight.std().item() == pytest.approx(math.sqrt(gain / fan_in), rel=0.05)
        assert abs(weight.mean().item()) < 0.1 * weight.std().item()


def test_frozen_layers_are_not_trained() -> None:
    net = standard_network(plain(trainable=False), (5, 4, 2), 3, width=4, seed=0)
    frozen = {name for name, weight in net.named_parameters() if not weight.requires_grad}
    assert frozen == {"conv_1.weight", "dense_7.weight", "dense_7.bias"}


def test_seeds_and_the_generator_of_others() -> None:
    def weights(seed: int | None) -> torch.Tensor:
        net = standard_network(plain(), (5, 4, 2), 3, width=4, seed=seed)
        return torch.cat([weight.detach().flatten() for weight in net.parameters()])

    state = torch.get_rng_state()
    assert torch.equal(weights(3), weights(3)) and not torch.equal(weights(3), weights(4))
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(weights(None), weights(None))


def by_hand(net: StandardNetwork, x: torch.Tensor) -> torch.Tensor:
    """The outputs, node by node, written without the ops' own code."""
    values: dict[int, torch.Tensor] = {}
    weights = net.state_dict()
    for index in net.architecture.live:
        node = net.architecture.nodes[index]
        read = [values[i] for i in node.inputs]
        match node.op:
            case ops.Input():
                values[index] = x
            case ops.Conv(kernel=q, stride=s):
                bias = weights[f"conv_{index}.bias"]
                values[index] = functional.conv2d(read[0], weights[f"conv_{index}.weight"], bias, s, q // 2)
            case ops.Relu():
                values[index] = read[0].clamp(min=0)
            case ops.AvgPool(size=k, stride=s, padding="valid"):
                values[index] = functional.avg_pool2d(read[0], k, s)
            case ops.AvgPool(size=k, stride=s):
                ones = functional.avg_pool2d(torch.ones_like(read[0]), k, s, k // 2)
                values[index] = functional.avg_pool2d(read[0], k, s, k // 2) / ones
            case ops.Add():
                values[index] = torch.stack(read).sum(0)
            case ops.GlobalAvgPool():
                values[index] = read[0].mean((2, 3))
            case ops.Flatten():
                values[index] = read[0].reshape(len(x), -1)
            case ops.Dense():
                values[index] = read[0] @ weights[f"dense_{index}.weight"].T + weights[f"dense_{index}.bias"]
    return values[net.architecture.live[-1]]


@pytest.mark.parametrize("seed", range(0, 60, 10))
def test_random_architectures_are_what_their_nodes_say(seed: int) -> None:
    for s in range(seed, seed + 10):
        h, w, c = SHAPES[s % len(SHAPES)]
        _, arch = random_architecture(s, (h, w, c))
        if any(getattr(node.op, "kernel", 1) > 99 for node in arch.nodes):
            continue
        x = torch.from_numpy(np.random.default_rng(s).standard_normal((3, c, h, w))).float()
        net = standard_network(arch, (h, w, c), 3, width=5, batch_norm=False, seed=s)
        with torch.no_grad():
            torch.testing.assert_close(net(x), by_hand(net, x), rtol=1e-4, atol=1e-4)
        normed = standard_network(arch, (h, w, c), 3, width=5, seed=s).eval()
        assert normed(x).shape == (3, 3)


def test_what_does_not_fit() -> None:
    with pytest.raises(UsageError, match="width must be at least 1, got 0"):
        standard_network(plain(), (5, 4, 2), 3, width=0)
    b = Builder()
    b.dense(b.flatten(b.avg_pool(b.conv(b.input(), 3), 4)))
    with pytest.raises(IllegalArchitecture, match="does not fit a 3x3 map"):
        standard_network(b.build(), (3, 3, 1), 2)
    net = standard_network(plain(), (5, 4, 2), 3, width=2)
    with pytest.raises(UsageError, match=r"images of shape \(n, 2, 5, 4\)"):
        net(torch.zeros(1, 2, 4, 5))
    assert "images (5, 4, 2), batch norm" in repr(net)
