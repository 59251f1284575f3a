"""The finite twin of an architecture: a torch module whose wide limit the exact kernels describe.

It imports torch at its top, as `standard` and `training` beside it do: import it where a twin is wanted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from nas_cntk.architecture import Architecture
from nas_cntk.errors import BackendUnavailable, UsageError
from nas_cntk.ops import Shape

try:
    import torch
except ImportError:
    raise BackendUnavailable("a finite network needs torch, which is not installed; install nas-cntk[train]") from None


def finite_network(
    arch: Architecture,
    image_shape: Sequence[int],
    num_classes: int,
    width: int = 64,
    kappa: float = 1.0,
    seed: int | None = None,
) -> FiniteNetwork:
    """Return the finite network of an architecture in the NTK parameterisation, input (n, c, h, w).

    Its mean empirical kernel is kappa^2 times the exact one, up to a bias of order 1/width. Weights are drawn from
    N(0, 1); those of layers that are not trainable do not require a gradient. Dead nodes are not built.

    Args:
        image_shape: (h, w, c).
        num_classes: outputs.
        width: channels of every conv.
        kappa: factor of the output; a small one starts training near the kernel's regime.
        seed: of the weights; None takes torch's own generator.

    Raises:
        IllegalArchitecture: if the architecture does not fit the image.
        UsageError: if a number is out of range.
        BackendUnavailable: on import, if torch is not installed.

    Source: section 3, the parameterisation; section 3.4 for kappa.
    """
    for name, value in (("num_classes", num_classes), ("width", width)):
        if value < 1:
            raise UsageError(f"{name} must be at least 1, got {value}")
    if not (math.isfinite(kappa) and kappa > 0):
        raise UsageError(f"kappa must be a positive number, got {kappa}")
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return FiniteNetwork(arch, arch.weights(image_shape, num_classes, width), image_shape, kappa, generator)


class FiniteNetwork(torch.nn.Module):
    """An architecture's nodes run in order, each through its op's own `forward`; made by `finite_network`."""

    def __init__(
        self,
        arch: Architecture,
        weights: dict[int, tuple[Shape, int]],
        image_shape: Sequence[int],
        kappa: float,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        self.architecture = arch
        self.image_shape = tuple(int(side) for side in image_shape)  # (h, w, c)
        self.kappa = float(kappa)
        for index in sorted(weights):
            op = arch.nodes[index].op
            drawn = torch.randn(weights[index][0], generator=generator)
            trainable = bool(getattr(op, "trainable", False))
            self.register_parameter(_name(arch, index), torch.nn.Parameter(drawn, requires_grad=trainable))
        # A value is dropped after its last reader, so that a deep network without gradients holds few maps.
        self._last_read = {i: index for index in arch.live for i in arch.nodes[index].inputs}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the outputs, shape (n, num_classes), for images `x`, shape (n, c, h, w).

        Raises:
            UsageError: if the images have another shape than the network was made for.
        """
        h, w, c = self.image_shape
        if tuple(x.shape[1:]) != (c, h, w):
            raise UsageError(f"the network reads images of shape (n, {c}, {h}, {w}), got {tuple(x.shape)}")
        values: dict[int, torch.Tensor] = {}
        for index in self.architecture.live:
            node = self.architecture.nodes[index]
            weight = self._parameters.get(_name(self.architecture, index))
            forward: Callable[..., torch.Tensor] = node.op.forward
            values[index] = forward(*([values[i] for i in node.inputs] or [x]), weight=weight)
            for i in set(node.inputs):
                if self._last_read[i] == index:
                    del values[i]
        return self.kappa * values[self.architecture.live[-1]]

    def extra_repr(self) -> str:
        """Return what `print` shows beside the name."""
        count = sum(weight.numel() for weight in self.parameters())
        return f"{len(self.architecture.live)} nodes, {count} weights, images {self.image_shape}, kappa={self.kappa:g}"


def _name(arch: Architecture, index: int) -> str:
    return f"{arch.nodes[index].op.NAME}_{index}"
