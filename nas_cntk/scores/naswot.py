"""NASWOT: how differently an untrained network's relus answer to different images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from nas_cntk.scores.batch import Batch

_RELUS = (torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_, nn.functional.relu)


def naswot(net: nn.Module, batch: Batch) -> float:
    """Return log |det K|, K[a, b] the number of relus that are on for both images or off for both; -inf if singular.

    Source: Mellor et al., "Neural architecture search without training" (2021), equations 1 and 2.
    """
    codes = _Codes(len(batch))
    with torch.no_grad(), codes:
        net(batch.x)
    # In units of one relu: the log of a determinant of numbers near 1e6 is far from overflow.
    sign, logarithm = torch.linalg.slogdet(codes.kernel)
    return float(logarithm) if float(sign) != 0 else -torch.inf


class _Codes(TorchFunctionMode):
    """Adds up, over every relu that is called, whether two images switch it alike."""

    def __init__(self, images: int) -> None:
        super().__init__()
        self.kernel = torch.zeros((images, images), dtype=torch.float64)

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if function in _RELUS:
            on = (args[0].detach() > 0).flatten(1).float()
            # Sums of zeros and ones, exact in float32 up to 2^24 relus of one layer.
            self.kernel += (on @ on.T + (1 - on) @ (1 - on).T).double()
        return function(*args, **(kwargs or {}))
