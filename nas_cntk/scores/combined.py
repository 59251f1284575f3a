"""One score of several: what the kernel, the untrained network and its size say together."""

from __future__ import annotations

import math
from collections.abc import Mapping

COMPONENTS = ("holdout_accuracy", "jacov", "params")

# Mean and deviation of each component, and its weight: fitted once on cells of NAS-Bench-201 with even `arch_index`
# (`benchmarks/fit_combined.py`), and never on others.
_FITTED: Mapping[str, tuple[float, float, float]] = {
    "holdout_accuracy": (-0.85, 0.22, 1.0),
    "jacov": (-4.35, 0.16, 1.0),
    "params": (12.9, 0.75, 1.0),
}


def combined(values: Mapping[str, float]) -> float:
    """Return the weighted sum of the standardised components; NaN if one is not defined.

    Accuracies enter as log odds, parameters as their log, jacov as -log(-jacov). One architecture has a value of its
    own, whatever else was scored, so a sampler can learn from it; on other data than CIFAR-10 the balance between the
    components is a guess.

    Args:
        values: at least the scores of `COMPONENTS`.
    """
    total = 0.0
    for name, (mean, deviation, weight) in _FITTED.items():
        total += weight * (transformed(name, values[name]) - mean) / deviation
    return total


def transformed(name: str, value: float) -> float:
    """Return a component on the scale on which it is standardised."""
    if math.isnan(value):
        return math.nan
    if name == "params":
        return math.log(value)
    if name.endswith("accuracy"):
        within = min(max(value, 1e-3), 1 - 1e-3)
        return math.log(within / (1 - within))
    # jacov: its size is 1 / k where two images are told apart by nothing, and its log compares all the same.
    return -math.log(-value) if value < 0 else math.nan
