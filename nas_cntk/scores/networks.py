"""The scores of an architecture's finite network, each from a network of its own draw, on one batch of images."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from nas_cntk.scores.batch import Batch, NetworkScore
from nas_cntk.scores.cost import BATCH
from nas_cntk.scores.grad_norm import grad_norm
from nas_cntk.scores.jacov import jacov
from nas_cntk.scores.naswot import naswot
from nas_cntk.scores.short_training import short_training
from nas_cntk.scores.synflow import synflow
from nas_cntk.scores.zico import zico

ZERO_COST: Mapping[str, NetworkScore] = {
    "synflow": synflow,
    "naswot": naswot,
    "jacov": jacov,
    "grad_norm": grad_norm,
    "zico": zico,
}


@dataclass(frozen=True, slots=True)
class Measured:
    """A score of a finite network; `value` is NaN where it is not defined."""

    value: float
    seconds: float


Labelled = tuple[NDArray[Any], NDArray[Any]]  # images (n, h, w, c), labels (n,)


def network_scores(
    make: Callable[[], nn.Module],
    names: Sequence[str],
    subset: Labelled,
    holdout: Labelled,
    *,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> dict[str, Measured]:
    """Return the scores called `names`; training ones use all images, the others the first 64 of the subset.

    `make` returns a new network, drawn by torch's own generator, which is seeded for it and then put back.

    Raises:
        KeyboardInterrupt: if cancelled.
    """
    found = {}
    batch = Batch.of(subset[0][:BATCH], subset[1][:BATCH])
    for at, name in enumerate(names):
        if cancelled is not None and cancelled():
            raise KeyboardInterrupt
        started = time.perf_counter()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = make()
        if name == "short_training":
            value = short_training(net, subset, holdout, seed=seed, progress=progress, cancelled=cancelled)
        else:
            value = ZERO_COST[name](net, batch)
        found[name] = Measured(value if math.isfinite(value) else math.nan, time.perf_counter() - started)
        if progress is not None:
            progress((at + 1) / len(names))
    return found
