"""Gradient norm: how strongly the loss of an untrained network depends on its weights."""

from __future__ import annotations

from torch import nn

from nas_cntk.scores.batch import Batch, gradients


def grad_norm(net: nn.Module, batch: Batch) -> float:
    """Return the sum over convs and linear layers of the Euclidean norm of the cross-entropy's gradient.

    Source: Abdelfattah et al., "Zero-cost proxies for lightweight NAS" (2021), section 3.
    """
    return sum(float(gradient.norm()) for gradient in gradients(net, batch))
