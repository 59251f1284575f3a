"""The empirical kernel of one finite twin nears the exact one like 1 / sqrt(width)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nas_cntk import Architecture, Builder, finite_network, kernel

WIDTHS = (64, 256, 1024)
SHAPE = (4, 4, 2)
NETWORKS = 6  # of each width


def architecture(name: str) -> Architecture:
    b = Builder()
    x = b.conv(b.input(), 3)
    if name == "residual":
        x = b.add(x, b.conv(b.relu(x), 3))
    else:
        x = b.conv(b.relu(x), 3)
    x = b.relu(x)
    b.dense(b.flatten(x) if name == "plain" else b.global_avg_pool(x))
    return b.build()


def empirical(arch: Architecture, images: torch.Tensor, width: int, seed: int) -> np.ndarray:
    """The ntk of one network, shape (n, n): inner products of the gradients of its one output."""
    net = finite_network(arch, SHAPE, 1, width, seed=seed)
    weights = list(net.parameters())
    gradients = []
    for image in images:
        found = torch.autograd.grad(net(image[None])[0, 0], weights)
        gradients.append(torch.cat([part.flatten() for part in found]))
    rows = torch.stack(gradients)
    return (rows @ rows.T).double().numpy()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "residual"])
def test_the_error_falls_like_one_over_the_root_of_the_width(name: str) -> None:
    arch = architecture(name)
    x = np.random.default_rng(0).standard_normal((3, *SHAPE)).astype(np.float32)
    exact = kernel(arch, x, backend="reference", dtype="float64")
    images = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
    errors = []
    for width in WIDTHS:
        squares = [
            np.mean((empirical(arch, images, width, seed) - exact) ** 2) / np.mean(exact**2) for seed in range(NETWORKS)
        ]
        errors.append(float(np.sqrt(np.mean(squares))))
    slope = np.polyfit(np.log(WIDTHS), np.log(errors), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.2), errors
    assert errors[-1] < 0.08, errors
