"""Short training: a few epochs of the standard recipe on the subset, judged on the held-out images."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

EPOCHS = 10


def short_training(
    net: nn.Module,
    subset: tuple[NDArray[Any], NDArray[Any]],
    holdout: tuple[NDArray[Any], NDArray[Any]],
    *,
    epochs: int = EPOCHS,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> float:
    """Return the held-out accuracy of the last epoch, trained in place; NaN where the training diverged.

    Images have shape (n, h, w, c), labels (n,). Cross-entropy, SGD with momentum 0.9, weight decay 5e-4, batches of
    64, learning rate 0.1 falling to 0 along a cosine: the first of the rates that `validate` tries, and no other.
    Unlike there no epoch is chosen: that would look at the held-out images.

    Raises:
        KeyboardInterrupt: if cancelled.
    """
    from nas_cntk.validate.training import Schedule, tensors, train

    cpu = torch.device("cpu")
    plan = Schedule("cross_entropy", epochs, 64, 0.1, momentum=0.9, weight_decay=5e-4, cosine=True, seed=seed)
    test = tensors(*holdout, cpu)
    found = train(net, tensors(*subset, cpu), test, plan, progress=progress, cancelled=cancelled)
    return math.nan if found.diverged else found.history[-1][2]
