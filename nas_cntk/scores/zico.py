"""ZiCo: how steady the gradients of the weights are from one batch to the next."""

from __future__ import annotations

import math

import torch
from torch import nn

from nas_cntk.scores.batch import Batch, gradients


def zico(net: nn.Module, batch: Batch) -> float:
    """Return the sum over layers of log sum |g|-mean / deviation, over two batches; NaN where no layer has any.

    The two batches are the two halves of `batch`; weights whose gradient does not vary are left out, and so are
    layers of which none is left.

    Source: Li et al., "ZiCo: zero-shot NAS via inverse coefficient of variation on gradients" (2023), equation 15.
    """
    total, layers = 0.0, 0
    for one, other in zip(*(gradients(net, half) for half in batch.halves()), strict=True):
        both = torch.stack((one, other)).double()
        deviation = both.std(dim=0, correction=0)
        varies = deviation > 0
        if bool(varies.any()):
            total += math.log(float((both.abs().mean(dim=0)[varies] / deviation[varies]).sum()))
            layers += 1
    return total if layers else math.nan
