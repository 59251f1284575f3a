"""Synaptic flow: how much of every weight reaches the output of a network of absolute weights, fed with ones."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from nas_cntk.scores.batch import Batch, weights


def synflow(net: nn.Module, batch: Batch) -> float:
    """Return the log of the sum over weights of |w dR/dw|, R the summed output; -inf or NaN where no weight counts.

    Batch norms are left out and float64 is used, as the published scores of NAS-Bench-201 have it. The log, which
    changes no ranking, keeps it a number that can be read.

    Source: Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic flow" (2020),
    equation 1; Abdelfattah et al., "Zero-cost proxies for lightweight NAS" (2021), section 3.
    """
    net = copy.deepcopy(net).double().requires_grad_(True)  # the flow passes through frozen layers as well
    with torch.no_grad():
        for value in net.state_dict().values():
            value.abs_()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.forward = _same  # type: ignore[method-assign, assignment]
    ones = torch.ones((1, *batch.x.shape[1:]), dtype=torch.float64)
    net(ones).sum().backward()
    total = sum(float((w.detach() * w.grad).abs().sum()) for w in weights(net) if w.grad is not None)
    return math.log(total) if total > 0 else -math.inf


def _same(x: torch.Tensor) -> torch.Tensor:
    return x
