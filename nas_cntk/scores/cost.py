"""What the scores of finite networks cost, before any is computed."""

from __future__ import annotations

from collections.abc import Sequence

BATCH = 64  # images of the scores that train nothing

# Passes of that batch through the network, a gradient counting as two; measured against one another on CPUs.
_PASSES = {"synflow": 0.5, "naswot": 2.0, "jacov": 3.0, "grad_norm": 3.0, "zico": 3.5}
_EPOCHS = 10  # of short training, of three passes each
RATE = 1.0e10  # multiply-adds a second of small convs on a core or two: right within a factor of three


def network_seconds(names: Sequence[str], flops: float, subset: int, holdout: int) -> float:
    """Return the predicted seconds of scores of a network of so many multiply-adds an image."""
    passes = sum(_PASSES.get(name, 0.0) for name in names) * BATCH
    if "short_training" in names:
        passes += _EPOCHS * (3 * subset + holdout)
    return flops * passes / RATE
