"""The finite twin of an architecture: a torch module whose wide limit the exact kernels describe.

It imports torch at its top, as `standard` and `training` beside it do: import it where a twin is wanted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from nas_cntk import ops
from nas_cntk.architecture import Architecture
from nas_cntk.errors import UsageError
from nas_cntk.ops import Shape
from nas_cntk.validate.graph import GraphNetwork, torch, weight_generator


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
    generator = weight_generator(num_classes, width, seed)
    if not (math.isfinite(kappa) and kappa > 0):
        raise UsageError(f"kappa must be a positive number, got {kappa}")
    return FiniteNetwork(arch, arch.weights(image_shape, num_classes, width), image_shape, kappa, generator)


class FiniteNetwork(GraphNetwork):
    """An architecture's nodes run in order, each through its op's own `forward`; made by `finite_network`."""

    def __init__(
        self,
        arch: Architecture,
        weights: dict[int, tuple[Shape, int]],
        image_shape: Sequence[int],
        kappa: float,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__(arch, image_shape)
        self.kappa = float(kappa)
        for index in sorted(weights):
            op = arch.nodes[index].op
            drawn = torch.randn(weights[index][0], generator=generator)
            trainable = bool(getattr(op, "trainable", False))
            self.register_parameter(weight_name(arch, index), torch.nn.Parameter(drawn, requires_grad=trainable))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return kappa times the outputs, as `GraphNetwork.forward` does."""
        return self.kappa * super().forward(x)

    def value(self, index: int, op: ops.Op, read: list[torch.Tensor]) -> torch.Tensor:
        """Return what a node computes, by its op's own `forward`."""
        forward: Callable[..., torch.Tensor] = op.forward
        return forward(*read, weight=self._parameters.get(weight_name(self.architecture, index)))

    def extra_repr(self) -> str:
        """Return what `print` shows beside the name."""
        count = sum(weight.numel() for weight in self.parameters())
        return f"{len(self.architecture.live)} nodes, {count} weights, images {self.image_shape}, kappa={self.kappa:g}"


def weight_name(arch: Architecture, index: int) -> str:
    """Return what the weights of a node are called among the network's parameters."""
    return f"{arch.nodes[index].op.NAME}_{index}"
