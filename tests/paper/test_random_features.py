"""The Gram matrix of random features: a few layers, a block of images at a time, it is that of the Jacobian."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from nas_cntk import finite_network
from nas_cntk.paper import networks, random_features
from nas_cntk.paper.random_features import empirical_gram, trained_layers
from nas_cntk.validate.finite import FiniteNetwork


@pytest.mark.parametrize("name", ["vanilla", "pooled"])
@pytest.mark.parametrize("budget", [2**30, 1])
def test_it_is_the_gram_matrix_of_the_jacobian(name: str, budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_features, "_block", lambda net, x: 3)
    net = finite_network(getattr(networks, name)(4), (5, 4, 2), 1, width=6, seed=1).double()
    x = torch.randn(8, 2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = []
    trained = [weight for weight in net.parameters() if weight.requires_grad]
    for image in x:
        gradient = torch.autograd.grad(net(image[None]).sum(), trained)
        rows.append(torch.cat([part.flatten() for part in gradient]).numpy())
    jacobian = np.stack(rows)
    found = empirical_gram(net, x, budget=budget)
    np.testing.assert_allclose(found, jacobian @ jacobian.T, rtol=1e-10, atol=1e-14)
    assert len(trained_layers(net)) == len(trained) == (4 if name == "vanilla" else 2)


def test_layers_that_fit_together_share_a_pass_and_no_more_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[tuple[str, ...], int]] = []
    honest = random_features._taps

    def noted(net: FiniteNetwork, names: Sequence[str], images: torch.Tensor) -> list[random_features._Tap]:
        asked.append((tuple(names), len(images)))
        return honest(net, names, images)

    monkeypatch.setattr(random_features, "_taps", noted)
    monkeypatch.setattr(random_features, "_block", lambda net, x: 2)
    net = finite_network(networks.vanilla(4), (4, 4, 1), 1, width=4, seed=0)
    first, *middle, last = trained_layers(net)
    sizes = [net.get_parameter(name).numel() for name in (first, *middle, last)]
    assert sizes == [36, 144, 144, 64]
    fractions: list[float] = []
    # Six images of float32: the first two layers together, then the other two.
    whole = empirical_gram(net, torch.randn(6, 1, 4, 4), budget=6 * 4 * (144 + 64), tick=fractions.append)
    assert asked == [((first, middle[0]), 2)] * 3 + [((middle[1], last), 2)] * 3
    assert fractions == sorted(fractions) and fractions[-1] == pytest.approx(1.0)
    assert whole.shape == (6, 6)


@pytest.mark.parametrize("budget", [None, 40_000, 5_000])
def test_the_work_is_what_is_done(budget: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[int] = []
    gradients: list[int] = []
    honest = random_features._taps

    def noted(net: FiniteNetwork, names: Sequence[str], images: torch.Tensor) -> list[random_features._Tap]:
        passed.append(len(images))
        gradients.extend([len(images)] * len(names))
        return honest(net, names, images)

    monkeypatch.setattr(random_features, "_taps", noted)
    monkeypatch.setattr(random_features, "_block", lambda net, x: 2)
    if budget is not None:
        monkeypatch.setattr(random_features, "available_memory", lambda: budget * random_features.SHARE)
    net = finite_network(networks.vanilla(4), (4, 4, 1), 1, width=8, seed=0)
    x = torch.randn(24, 1, 4, 4)
    needed = random_features.work(net, x, 24)
    empirical_gram(net, x)
    assert (sum(passed), sum(gradients)) == (needed.images, needed.gradients)


def test_the_time_of_an_image_is_measured() -> None:
    net = finite_network(networks.pooled(3), (6, 6, 1), 1, width=4, seed=0)
    assert all(0 < seconds < 1 for seconds in random_features.seconds_an_image(net, torch.randn(4, 1, 6, 6)))
