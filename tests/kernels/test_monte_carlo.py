"""Every op and every form of sum against the mean empirical kernel of its finite torch network.

For a network of width n the mean empirical kernel is the exact one up to a bias of order 1/n, so the means at two
widths give 2 K(2n) - K(n), which is compared with the exact kernel within 4 standard errors. `python
tests/kernels/test_monte_carlo.py` prints the whole table.

The nngp is E[f f'], the ntk the inner product of the gradients in the trained weights. Networks are drawn with many
outputs: those are independent draws of the readout, so their mean has a smaller variance than one output's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from random_architectures import random_images

from nas_cntk import Architecture, Builder, finite_network, kernel
from nas_cntk.canonical import Value
from nas_cntk.kernels.backends import reference

IMAGE_SHAPE = (5, 4, 2)
WIDTH = 16  # and twice that
DRAWS = 2800  # networks of each width
CHUNK = 100  # drawn at once
OUTPUTS = 64
LARGEST_ERROR = 0.02  # of a standard error, relative to the greatest entry: the test's power
KINDS = ("nngp", "ntk")

Body = Callable[[Builder, int], int]  # from a conv of the image to the node that the head reads


def _skip(b: Builder, x: int) -> int:
    return b.relu(b.add(x, b.conv(b.relu(x), 3)))


def _relu_and_relu(b: Builder, x: int) -> int:
    # Independent inputs: relu outputs are correlated all the same, since they have a mean.
    return b.conv(b.add(b.relu(x), b.relu(b.conv(b.relu(x), 3))), 3)


def _cell(b: Builder, x: int) -> int:
    # A NAS-Bench-201 cell: every kind of edge.
    pooled = b.avg_pool(x, 3, 1, "same")
    first = b.add(x, pooled)
    second = b.add(first, b.conv(b.relu(x), 3))
    return b.relu(b.add(b.avg_pool(second, 3, 1, "same"), b.conv(b.relu(first), 1), x))


def _twins_apart(b: Builder, x: int) -> int:
    relu = b.relu(x)
    first, second = b.conv(relu, 3), b.conv(relu, 3)
    return b.relu(b.add(b.conv(b.relu(first), 3), second))


BODIES: dict[str, Body] = {
    "conv3 relu": lambda b, x: b.relu(x),
    "conv5": lambda b, x: b.conv(b.relu(x), 5),
    "conv1": lambda b, x: b.relu(b.conv(b.relu(x), 1)),
    "conv stride 2": lambda b, x: b.relu(b.conv(b.relu(x), 3, 2)),
    "frozen conv": lambda b, x: b.relu(b.conv(b.relu(x), 3, trainable=False)),
    "pool valid": lambda b, x: b.relu(b.avg_pool(b.conv(b.relu(x), 3), 2, 2)),
    "pool same": lambda b, x: b.relu(b.conv(b.avg_pool(b.relu(x), 3, 2, "same"), 3)),
    "skip": _skip,
    "skip + pool of the node": lambda b, x: b.relu(b.add(x, b.avg_pool(x, 3, 1, "same"))),
    "node twice": lambda b, x: b.conv(b.relu(b.add(x, x)), 3),
    "nested adds": lambda b, x: b.relu(b.add(b.add(x, b.conv(b.relu(x), 1)), b.add(x, b.avg_pool(x, 3, 1, "same")), x)),
    "twin convs": lambda b, x: b.relu(b.add(*(b.conv(y, 3) for y in [b.relu(x)] * 2))),
    "twin convs, other readers": _twins_apart,
    "relu + its input": lambda b, x: b.conv(b.add(b.relu(x), x), 3),
    "relu + relu": _relu_and_relu,
    "relu + relu, shared": lambda b, x: b.conv(b.add(b.relu(x), b.relu(b.add(x, b.conv(b.relu(x), 3)))), 3),
    "relu + pooled relu": lambda b, x: b.conv(b.add((y := b.relu(x)), b.avg_pool(y, 3, 1, "same")), 3),
    "relu + relu of pooled": lambda b, x: b.conv(b.add(b.relu(x), b.relu(b.avg_pool(x, 3, 1, "same"))), 3),
    "relu + conv of it": lambda b, x: b.conv(b.add((y := b.relu(x)), b.conv(y, 3)), 3),
    "relu + conv of its input": lambda b, x: b.conv(b.add(b.relu(x), b.conv(x, 3)), 3),
    "two roads, stride 2": lambda b, x: b.conv(b.add(b.relu(b.conv(x, 3, 2)), b.relu(b.avg_pool(x, 3, 2, "same"))), 3),
    "cell": _cell,
}
# Heads take turns over the bodies; the frozen readout and the frozen first conv are heads and stems of their own.
HEADS: tuple[Callable[[Builder, int], int], ...] = (
    lambda b, x: b.dense(b.global_avg_pool(x)),
    lambda b, x: b.dense(b.flatten(x)),
    lambda b, x: b.dense(b.global_avg_pool(b.avg_pool(x, 1, 1))),
    lambda b, x: b.dense(b.flatten(b.avg_pool(x, 2))),
    lambda b, x: b.dense(b.global_avg_pool(x), trainable=False),
)
NEED_CROSS_TERMS = ("skip + pool of the node", "relu + relu", "node twice", "relu + its input", "cell")


def architecture(name: str) -> Architecture:
    place = list(BODIES).index(name)
    b = Builder()
    x = BODIES[name](b, b.conv(b.input(), 3, trainable=place % 4 != 1))
    # Local pooling needs a map of 2x2 at least, and stride-2 bodies leave 3x2 or less.
    head = HEADS[0] if name in ("pool valid", "conv stride 2") else HEADS[place % len(HEADS)]
    head(b, x)
    return b.build()


@dataclass(frozen=True, slots=True)
class Row:
    """One kernel of one network: exact, extrapolated and its standard error."""

    name: str
    kind: str
    exact: NDArray[np.float64]  # shape: (n, n)
    without: NDArray[np.float64]  # the same without cross terms, shape: (n, n)
    estimate: NDArray[np.float64]  # shape: (n, n)
    error: NDArray[np.float64]  # shape: (n, n)

    @property
    def z(self) -> float:
        """The greatest deviation in standard errors."""
        return float((np.abs(self.estimate - self.exact) / self.error).max())

    @property
    def z_without(self) -> float:
        """The same for the kernel that drops the cross terms."""
        return float((np.abs(self.estimate - self.without) / self.error).max())


def images() -> NDArray[np.float64]:
    """One image with a black patch and one of noise, shape (2, h, w, c)."""
    return random_images(7, 3, IMAGE_SHAPE)[[0, 2]]


def empirical(arch: Architecture, width: int, seed: int) -> NDArray[np.float64]:
    """Return the empirical kernels of `DRAWS` networks, shape (2, draws, n, n), nngp and ntk."""
    import torch

    net = finite_network(arch, IMAGE_SHAPE, OUTPUTS, width, seed=0)
    trained = [name for name, weight in net.named_parameters() if weight.requires_grad]
    x = torch.from_numpy(images().transpose(0, 3, 1, 2).astype(np.float32))
    generator = torch.Generator().manual_seed(seed)

    def first_output(weights: dict[str, torch.Tensor], image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        outputs = torch.func.functional_call(net, weights, (image[None],))[0]
        return outputs[0], outputs

    of_each = torch.func.grad(first_output, has_aux=True)
    of_images = torch.func.vmap(of_each, in_dims=(None, 0))
    of_draws = torch.func.vmap(of_images, in_dims=(0, None))
    parts = []
    for _ in range(0, DRAWS, CHUNK):
        weights = {
            name: torch.randn(CHUNK, *weight.shape, generator=generator) for name, weight in net.named_parameters()
        }
        gradients, outputs = of_draws(weights, x)
        nngp = torch.einsum("dic,djc->dij", outputs, outputs) / OUTPUTS
        flat = [gradients[name].flatten(2) for name in trained]
        ntk = torch.stack([torch.einsum("dip,djp->dij", g, g) for g in flat]).sum(0)
        parts.append(torch.stack([nngp, ntk]).double().numpy())
    return np.concatenate(parts, axis=1)


def without_cross_terms(arch: Architecture) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the kernels that plain adding of branches gives: each term of a sum with itself alone."""
    whole = reference._Fold.moments

    def own_terms(self: reference._Fold, u: Value, v: Value) -> reference.Moments:
        if u != v:
            return whole(self, u, v)
        total: reference.Moments = None
        for atom, multiplicity in u:
            part = whole(self, ((atom, 1),), ((atom, 1),))
            if part is not None:
                s, t = multiplicity * part[0], multiplicity * part[1]
                total = (s, t) if total is None else (total[0] + s, total[1] + t)
        return total

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference._Fold, "moments", own_terms)
        return kernel(arch, images(), kind="both", backend="reference", dtype="float64")


def measure(name: str) -> list[Row]:
    arch = architecture(name)
    exact = kernel(arch, images(), kind="both", backend="reference", dtype="float64")
    without = without_cross_terms(arch) if name in NEED_CROSS_TERMS else exact
    narrow, wide = (empirical(arch, width, seed=100 * list(BODIES).index(name) + width) for width in (WIDTH, 2 * WIDTH))
    rows = []
    for at, kind in enumerate(KINDS):
        estimate = 2 * wide[at].mean(0) - narrow[at].mean(0)
        error = np.sqrt((4 * wide[at].var(0, ddof=1) + narrow[at].var(0, ddof=1)) / DRAWS)
        rows.append(Row(name, kind, exact[at], without[at], estimate, error))
    return rows


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """One thread of torch: its maps here are too small for more, which only wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", list(BODIES))
def test_monte_carlo(name: str) -> None:
    for row in measure(name):
        assert row.error.max() < LARGEST_ERROR * row.exact.max(), row
        assert row.z < 4, row
        if name in NEED_CROSS_TERMS:
            assert row.z_without > 8, row


def main() -> None:
    """Print the table of docs/exactness.md."""
    print("| network | kind | exact | extrapolated | standard error | z | z without cross terms |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    worst, entries = 0.0, 0
    for name in BODIES:
        for row in measure(name):
            a, b = np.unravel_index((np.abs(row.estimate - row.exact) / row.error).argmax(), row.exact.shape)
            z = (row.estimate - row.exact)[a, b] / row.error[a, b]
            other = f"{row.z_without:.0f}" if name in NEED_CROSS_TERMS else ""
            print(
                f"| {name} | {row.kind} | {row.exact[a, b]:.4f} | {row.estimate[a, b]:.4f} | {row.error[a, b]:.4f}"
                f" | {z:+.1f} | {other} |",
                flush=True,
            )
            worst, entries = max(worst, row.z), entries + 3
    print(f"\n{entries} entries, greatest |z| {worst:.2f}")
    print(f"of normal deviates, the greatest of so many is about {math.sqrt(2 * math.log(entries)):.1f}")


if __name__ == "__main__":
    main()
