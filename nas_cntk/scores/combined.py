"""One score of several: what the kernel, the untrained network and its size say together."""

from __future__ import annotations

import math
from collections.abc import Mapping

COMPONENTS = ("alignment_gain", "jacov", "synflow", "params")

# Mean and deviation of each part over the 294 live ones of 300 random cells of NAS-Bench-201 with even `arch_index`
# (CIFAR-10, kernels at 8x8 with 300 images, networks at 32x32), by `benchmarks/fit_combined.py`. The parts were
# chosen on the same cells, of six singly and together, with equal weights.
_FITTED: Mapping[str, tuple[float, float]] = {
    "alignment_gain": (0.0278, 0.00205),
    "jacov": (-4.634, 0.947),
    "synflow": (54.57, 20.3),
    "params": (12.7, 0.696),
}


def combined(values: Mapping[str, float]) -> float:
    """Return the sum of the standardised components; NaN if one is not defined.

    jacov enters as -log(-jacov), parameters as their log. One architecture has a value of its own, whatever else was
    scored, so a sampler can learn from it; on other data than CIFAR-10 the balance between the components is a guess.

    Args:
        values: at least the scores of `COMPONENTS`.
    """
    total = 0.0
    for name, (mean, deviation) in _FITTED.items():
        total += (transformed(name, values[name]) - mean) / deviation
    return total


def transformed(name: str, value: float) -> float:
    """Return a component on the scale on which it is standardised."""
    if math.isnan(value):
        return math.nan
    if name == "params":
        return math.log(value)
    # Its size is 1 / k where two images are told apart by nothing, and its log compares all the same.
    if name == "jacov":
        return -math.log(-value) if value < 0 else math.nan
    return value
