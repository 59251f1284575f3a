"""A batch: images and labels as tensors, and what the scores of finite networks ask of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_cntk.errors import BackendUnavailable

try:
    import torch
    from torch import nn
except ImportError:
    raise BackendUnavailable(
        "scores of finite networks need torch, which is not installed; install nas-cntk[train]"
    ) from None


@dataclass(frozen=True, slots=True)
class Batch:
    """Images x, shape (n, c, h, w), float32, and their labels y, shape (n,)."""

    x: torch.Tensor
    y: torch.Tensor

    @classmethod
    def of(cls, images: NDArray[Any], labels: NDArray[Any]) -> Batch:
        """Return a batch of images (n, h, w, c) and labels (n,)."""
        x = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32))
        return cls(x, torch.from_numpy(np.ascontiguousarray(labels, dtype=np.int64)))

    def __len__(self) -> int:
        return len(self.y)

    def halves(self) -> tuple[Batch, Batch]:
        """Return two batches of half the images each."""
        half = len(self) // 2
        return Batch(self.x[:half], self.y[:half]), Batch(self.x[half:], self.y[half:])


def weights(net: nn.Module) -> Iterator[torch.Tensor]:
    """Return the weights of convs and linear layers, in order: batch norms and biases are no part of any score."""
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            yield module.weight


def gradients(net: nn.Module, batch: Batch) -> list[torch.Tensor]:
    """Return the gradient of the mean cross-entropy for every trainable one of `weights`; zeros where none arrives."""
    net.zero_grad(set_to_none=True)
    loss = nn.functional.cross_entropy(net(batch.x), batch.y)
    if loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]
    return [torch.zeros_like(w) if w.grad is None else w.grad for w in weights(net) if w.requires_grad]


NetworkScore = Callable[[nn.Module, Batch], float]
