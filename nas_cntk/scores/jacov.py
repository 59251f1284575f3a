"""Jacobian covariance: how little the input gradients of different images resemble one another."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from nas_cntk.scores.batch import Batch

JITTER = 1e-5  # the source's k


def jacov(net: nn.Module, batch: Batch) -> float:
    """Return -sum over eigenvalues v of log(v + k) + 1 / (v + k); NaN where an image has no gradient.

    v are the eigenvalues of the correlations between the images' gradients of the summed outputs.

    Source: Mellor et al., "Neural architecture search without training", version 1 (2020), section 4; as in
    Abdelfattah et al., "Zero-cost proxies for lightweight NAS" (2021).
    """
    x = batch.x.clone().requires_grad_()
    net.zero_grad(set_to_none=True)
    outputs = net(x)
    (gradient,) = torch.autograd.grad(outputs.sum(), x)
    rows = gradient.flatten(1).double().numpy()
    if not (np.isfinite(rows).all() and (rows.std(axis=1) > 0).all()):
        return math.nan
    v = np.linalg.eigvalsh(np.corrcoef(rows)) + JITTER
    return -float(np.sum(np.log(v) + 1 / v)) if (v > 0).all() else math.nan
