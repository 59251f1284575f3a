"""The paper's recipe: its grid, and the largest stable step that the kernel gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nas_cntk import Architecture, Builder, finite_network, kernel
from nas_cntk.errors import StudyError
from nas_cntk.regression import targets
from nas_cntk.validate.paper_grid import grid, largest_eigenvalue, relative_eigenvalue, widths
from nas_cntk.validate.training import Schedule, tensors, train


def architecture() -> Architecture:
    b = Builder()
    b.dense(b.flatten(b.relu(b.conv(b.relu(b.conv(b.input(), 3)), 3))))
    return b.build()


@pytest.mark.parametrize("n", [1, 2, 40])
def test_power_iteration_finds_the_greatest_eigenvalue(n: int) -> None:
    x = np.random.default_rng(n).standard_normal((n, 4, 4, 2)).astype(np.float32)
    k = kernel(architecture(), x)
    assert largest_eigenvalue(k) == pytest.approx(np.linalg.eigvalsh(k.astype(float))[-1], rel=1e-4)
    assert relative_eigenvalue(architecture(), x, "auto") == pytest.approx(largest_eigenvalue(k) / n)
    assert largest_eigenvalue(np.zeros((3, 3))) == 0


def test_the_grid() -> None:
    points = grid(8, 0.5)
    assert len(points) == 12 and [point.width for point in points] == 6 * [4] + 6 * [8]
    for point in points:
        assert point.learning_rate == pytest.approx(point.step * 2 / (point.kappa**2 * 0.5))
    assert widths(1) == (1,) and len(grid(1, 0.5)) == 6
    with pytest.raises(StudyError, match="greatest eigenvalue is 0; use --recipe standard"):
        grid(8, 0.0)


@pytest.mark.parametrize("kappa", [1.0, 0.3])
def test_gradient_descent_is_stable_up_to_the_step_that_the_kernel_gives(kappa: float) -> None:
    """Full batches: the loss falls steadily at 0.9 of it and first grows at 1.4 of it.

    What comes after is the finite network's: it moves on to where the kernel is smaller, and the loss falls again.
    """
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((24, 4, 4, 2)).astype(np.float32), rng.integers(0, 3, 24)
    limit = 2 / (kappa**2 * relative_eigenvalue(architecture(), x, "auto"))
    data = tensors(x, y, torch.device("cpu"))

    def losses(step: float) -> list[float]:
        net = finite_network(architecture(), (4, 4, 2), 3, 128, kappa, seed=0)
        found = train(net, data, data, Schedule("quadratic", 6, 24, step * limit))
        return [line[0] for line in found.history]

    calm, wild = losses(0.9), losses(1.4)
    assert all(later < earlier for earlier, later in zip(calm, calm[1:], strict=False))
    assert max(wild[2:]) > 1.3 * wild[1]


def test_the_loss_is_half_the_squared_distance_from_the_regressions_targets() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((7, 4, 4, 2)).astype(np.float32), rng.integers(0, 3, 7)
    net = finite_network(architecture(), (4, 4, 2), 3, 8, seed=0)
    data = tensors(x, y, torch.device("cpu"))
    with torch.no_grad():
        outputs = net(data.x).double().numpy()
    expected = 0.5 * np.sum((outputs - targets(y, 3)) ** 2, axis=1).mean()
    from nas_cntk.validate.training import evaluate

    assert evaluate(net, data, "quadratic")[0] == pytest.approx(expected, rel=1e-5)
