"""The Gram matrix of random features: layer by layer, block by block, it is that of the whole Jacobian."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nas_cntk import finite_network
from nas_cntk.paper import networks, random_features
from nas_cntk.paper.random_features import empirical_gram, trained_layers


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


def test_no_more_than_one_layer_of_a_block_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []
    honest = random_features._gradients

    def noted(net: torch.nn.Module, name: str):  # type: ignore[no-untyped-def]
        function = honest(net, name)  # type: ignore[arg-type]

        def gradients(images: torch.Tensor) -> torch.Tensor:
            asked.append((name, len(images)))
            return function(images)

        return gradients

    monkeypatch.setattr(random_features, "_gradients", noted)
    monkeypatch.setattr(random_features, "_block", lambda net, x: 2)
    net = finite_network(networks.vanilla(3), (4, 4, 1), 1, width=4, seed=0)
    fractions: list[float] = []
    empirical_gram(net, torch.randn(6, 1, 4, 4), tick=fractions.append)
    assert [name for name, _ in asked] == [name for name in trained_layers(net) for _ in range(3)]
    assert {count for _, count in asked} == {2}
    assert fractions == sorted(fractions) and fractions[-1] == pytest.approx(1.0)
