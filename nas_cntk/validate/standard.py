"""An architecture as the network that people train: standard parameterisation, He initialisation, batch norm."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from nas_cntk import ops
from nas_cntk.architecture import Architecture
from nas_cntk.validate.graph import GraphNetwork, torch, weight_generator


def standard_network(
    arch: Architecture,
    image_shape: Sequence[int],
    num_classes: int,
    width: int = 64,
    batch_norm: bool = True,
    seed: int | None = None,
) -> StandardNetwork:
    """Return the network of an architecture in standard parameterisation, input (n, c, h, w).

    The topology is the architecture's own, with a plain relu. Weights are drawn from N(0, 2 / fan in), those of the
    readout, which no relu follows, from N(0, 1 / fan in). With `batch_norm` every conv is followed by a batch norm
    and has no bias; without, convs have biases, of 0 at first. The readout has a bias. The weights of layers that
    are not trainable do not require a gradient, nor do their biases; their batch norm is trained all the same.
    Modules are named by node, `conv_3`, `norm_3`, `dense_9`. Dead nodes are not built.

    Args:
        image_shape: (h, w, c).
        num_classes: outputs.
        width: channels of every conv.
        seed: of the weights; None takes torch's own generator.

    Raises:
        IllegalArchitecture: if the architecture does not fit the image.
        UsageError: if a number is out of range.
        BackendUnavailable: on import, if torch is not installed.

    Source: He et al., "Delving deep into rectifiers" (2015), equation 10.
    """
    generator = weight_generator(num_classes, width, seed)
    return StandardNetwork(arch, image_shape, num_classes, width, batch_norm, generator)


class StandardNetwork(GraphNetwork):
    """An architecture's nodes run in order, convs and readout as torch's own layers; made by `standard_network`."""

    def __init__(
        self,
        arch: Architecture,
        image_shape: Sequence[int],
        num_classes: int,
        width: int,
        batch_norm: bool,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__(arch, image_shape)
        self.num_classes, self.width, self.batch_norm = int(num_classes), int(width), bool(batch_norm)
        for index, (shape, _) in sorted(arch.weights(image_shape, num_classes, width).items()):
            op = arch.nodes[index].op
            layer: torch.nn.Conv2d | torch.nn.Linear
            if isinstance(op, ops.Conv):
                padding = (op.kernel - 1) // 2
                layer = torch.nn.utils.skip_init(  # type: ignore[no-untyped-call]
                    torch.nn.Conv2d, shape[1], shape[0], op.kernel, op.stride, padding, bias=not batch_norm
                )
                gain, trainable = 2.0, op.trainable
                if batch_norm:
                    self.add_module(f"norm_{index}", torch.nn.BatchNorm2d(shape[0]))
            else:
                assert isinstance(op, ops.Dense)
                layer = torch.nn.utils.skip_init(torch.nn.Linear, shape[1], shape[0])  # type: ignore[no-untyped-call]
                gain, trainable = 1.0, op.trainable
            with torch.no_grad():
                layer.weight.normal_(0.0, math.sqrt(gain / math.prod(shape[1:])), generator=generator)
                if layer.bias is not None:
                    layer.bias.zero_()
            layer.requires_grad_(trainable)
            self.add_module(f"{op.NAME}_{index}", layer)

    def value(self, index: int, op: ops.Op, read: list[torch.Tensor]) -> torch.Tensor:
        """Return what a node computes: convs, their batch norms and the readout by torch's own layers."""
        if isinstance(op, ops.Conv):
            value: torch.Tensor = self._modules[f"conv_{index}"](read[0])  # type: ignore[misc]
            if self.batch_norm:
                value = self._modules[f"norm_{index}"](value)  # type: ignore[misc]
            return value
        if isinstance(op, ops.Dense):
            return self._modules[f"dense_{index}"](read[0])  # type: ignore[misc, no-any-return]
        if isinstance(op, ops.Relu):
            return torch.relu(read[0])  # without the sqrt 2 of the NTK parameterisation
        forward: Callable[..., torch.Tensor] = op.forward  # the linear ones are the same in both networks
        return forward(*read, weight=None)

    def extra_repr(self) -> str:
        """Return what `print` shows beside the name."""
        count = sum(weight.numel() for weight in self.parameters())
        norm = "batch norm" if self.batch_norm else "no batch norm"
        return f"{len(self.architecture.live)} nodes, {count} weights, images {self.image_shape}, {norm}"
