"""An architecture's nodes run in order: what both finite networks of it share."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from nas_cntk import ops
from nas_cntk.architecture import Architecture
from nas_cntk.errors import BackendUnavailable, UsageError

try:
    import torch
except ImportError:
    raise BackendUnavailable("a finite network needs torch, which is not installed; install nas-cntk[train]") from None

__all__ = ["GraphNetwork", "torch", "weight_generator"]


def weight_generator(num_classes: int, width: int, seed: int | None) -> torch.Generator | None:
    """Return the generator of a network's weights; None is torch's own.

    Raises:
        UsageError: if a number is out of range.
    """
    for name, value in (("num_classes", num_classes), ("width", width)):
        if value < 1:
            raise UsageError(f"{name} must be at least 1, got {value}")
    return None if seed is None else torch.Generator().manual_seed(seed)


class GraphNetwork(torch.nn.Module):
    """The network of an architecture, of which a subclass says what each node computes."""

    def __init__(self, arch: Architecture, image_shape: Sequence[int]) -> None:
        super().__init__()
        self.architecture = arch
        self.image_shape = tuple(int(side) for side in image_shape)  # (h, w, c)
        # A value is dropped after its last reader, so that a deep network without gradients holds few maps.
        self._last_read = {i: index for index in arch.live for i in arch.nodes[index].inputs}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the outputs, shape (n, num_classes), for images `x`, shape (n, c, h, w).

        Raises:
            UsageError: if the images have another shape than the network was made for.
        """
        last: deque[tuple[int, list[torch.Tensor], torch.Tensor]] = deque(self.steps(x), maxlen=1)
        return last[0][2]

    def steps(self, x: torch.Tensor) -> Iterator[tuple[int, list[torch.Tensor], torch.Tensor]]:
        """Yield every live node in order with what it reads, the images if nothing else, and its value.

        Raises:
            UsageError: as `forward`.
        """
        h, w, c = self.image_shape
        if tuple(x.shape[1:]) != (c, h, w):
            raise UsageError(f"the network reads images of shape (n, {c}, {h}, {w}), got {tuple(x.shape)}")
        values: dict[int, torch.Tensor] = {}
        for index in self.architecture.live:
            node = self.architecture.nodes[index]
            read = [values[i] for i in node.inputs] or [x]
            values[index] = self.value(index, node.op, read)
            yield index, read, values[index]
            del read
            for i in set(node.inputs):
                if self._last_read[i] == index:
                    del values[i]

    def value(self, index: int, op: ops.Op, read: list[torch.Tensor]) -> torch.Tensor:
        """Return what a node computes of the values it reads, or of the images."""
        raise NotImplementedError
