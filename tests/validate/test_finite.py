"""The finite twin: its parts, parameterisation and refusals; `tests/kernels/test_monte_carlo.py` proves it."""

from __future__ import annotations

import copy
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from random_architectures import SHAPES, random_architecture

import nas_cntk
from nas_cntk import Architecture, Builder, finite_network
from nas_cntk.errors import IllegalArchitecture, UsageError


def plain(trainable: bool = True) -> Architecture:
    b = Builder()
    x = b.relu(b.conv(b.input(), 3, 2, trainable=False))
    b.conv(x, 5)  # dead
    x = b.add(x, b.conv(x, 1), x)
    b.dense(b.flatten(x), trainable)
    return b.build()


def test_the_formula_by_hand() -> None:
    net = finite_network(plain(), (5, 4, 2), 3, width=6, kappa=0.5, seed=0)
    x = torch.randn(7, 2, 5, 4, generator=torch.Generator().manual_seed(1))
    conv = torch.nn.functional.conv2d
    stem, one, readout = (weight.detach() for weight in net.parameters())
    relu = math.sqrt(2) * conv(x, stem / math.sqrt(2 * 9), stride=2, padding=1).clamp(min=0)
    features = (2 * relu + conv(relu, one / math.sqrt(6))).flatten(1)
    expected = 0.5 * features @ readout.T / math.sqrt(6 * 3 * 2)
    torch.testing.assert_close(net(x), expected)
    assert net(x).shape == (7, 3)


def test_weights_are_standard_normal_and_frozen_where_marked() -> None:
    net = finite_network(plain(trainable=False), (5, 4, 2), 3, width=64, seed=0)
    trained = {name: weight.requires_grad for name, weight in net.named_parameters()}
    assert trained == {"conv_1": False, "conv_4": True, "dense_7": False}  # and the dead conv is not built
    weights = torch.cat([weight.detach().flatten() for weight in net.parameters()])
    assert abs(weights.mean().item()) < 0.05 and weights.std().item() == pytest.approx(1, abs=0.05)
    net(torch.zeros(1, 2, 5, 4)).sum().backward()
    assert net.conv_4.grad is not None and net.conv_1.grad is None and net.dense_7.grad is None


def test_seeds() -> None:
    def weights(seed: int | None) -> torch.Tensor:
        net = finite_network(plain(), (5, 4, 2), 3, width=4, seed=seed)
        return torch.cat([weight.detach().flatten() for weight in net.parameters()])

    assert torch.equal(weights(3), weights(3)) and not torch.equal(weights(3), weights(4))
    state = torch.get_rng_state()
    weights(3)
    assert torch.equal(torch.get_rng_state(), state)  # a seeded network leaves torch's own generator alone
    torch.manual_seed(5)
    first = weights(None)
    assert not torch.equal(first, weights(None))
    torch.manual_seed(5)
    assert torch.equal(first, weights(None))


@pytest.mark.parametrize("seed", range(0, 60, 10))
def test_random_architectures_run(seed: int) -> None:
    for s in range(seed, seed + 10):
        h, w, c = SHAPES[s % len(SHAPES)]
        _, arch = random_architecture(s, (h, w, c))
        if any(getattr(node.op, "kernel", 1) > 99 for node in arch.nodes):
            continue  # a million weights times the width squared
        net = finite_network(arch, (h, w, c), 3, width=5, seed=s)
        x = torch.from_numpy(np.random.default_rng(s).standard_normal((2, c, h, w))).float()
        out = net(x)
        assert out.shape == (2, 3) and torch.isfinite(out).all()
        # Without biases the network is positively homogeneous, and images do not see each other.
        torch.testing.assert_close(net(2 * x), 2 * out, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(net(x[1:]), out[1:], rtol=1e-4, atol=1e-5)
        assert sum(weight.numel() for weight in net.parameters()) == arch.count_parameters((h, w, c), 3, 5)


def test_it_is_a_torch_module() -> None:
    net = finite_network(plain(), (5, 4, 2), 3, width=4, seed=0)
    x = torch.randn(2, 2, 5, 4)
    for other in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert torch.equal(other(x), net(x))
    fresh = finite_network(plain(), (5, 4, 2), 3, width=4, seed=1)
    fresh.load_state_dict(net.state_dict())
    assert torch.equal(fresh(x), net(x))
    assert net.double()(x.double()).dtype == torch.float64
    assert "images (5, 4, 2), kappa=1" in repr(net)


def test_a_very_deep_network_runs_forwards_and_backwards() -> None:
    b = Builder()
    x = b.conv(b.input(), 3)
    for _ in range(1500):
        x = b.add(x, b.conv(b.relu(x), 1))
        x = b.avg_pool(x, 1)
    b.dense(b.global_avg_pool(x))
    net = finite_network(b.build(), (2, 2, 1), 1, width=2, seed=0).double()
    out = net(torch.full((1, 1, 2, 2), 1e-100, dtype=torch.float64))
    out.sum().backward()
    assert torch.isfinite(out).all() and net.conv_1.grad is not None


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"num_classes": 0}, "num_classes must be at least 1, got 0"),
        ({"width": -4}, "width must be at least 1, got -4"),
        ({"kappa": 0.0}, "kappa must be a positive number, got 0.0"),
        ({"kappa": math.nan}, "kappa must be a positive number, got nan"),
    ],
)
def test_numbers_out_of_range(changed: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        finite_network(plain(), (5, 4, 2), **{"num_classes": 2, **changed})  # type: ignore[arg-type]


def test_images_that_do_not_fit() -> None:
    b = Builder()
    b.dense(b.flatten(b.avg_pool(b.conv(b.input(), 3), 4)))
    with pytest.raises(IllegalArchitecture, match="node 2.*does not fit a 3x3 map"):
        finite_network(b.build(), (3, 3, 1), 2)
    net = finite_network(b.build(), (5, 4, 1), 2, width=2)
    with pytest.raises(UsageError, match=r"images of shape \(n, 1, 5, 4\), got \(2, 5, 4, 1\)"):
        net(torch.zeros(2, 5, 4, 1))


def test_torch_is_imported_on_first_use_only() -> None:
    code = (
        "import sys, nas_cntk; assert 'torch' not in sys.modules\n"
        "nas_cntk.finite_network; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_torch_one_line_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import nas_cntk; from nas_cntk.errors import BackendUnavailable\n"
        "try: nas_cntk.finite_network\n"
        "except BackendUnavailable as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip().endswith("install nas-cntk[train]") and done.stdout.count("\n") == 1


def test_the_door() -> None:
    assert "finite_network" in nas_cntk.__all__ and nas_cntk.finite_network is finite_network
