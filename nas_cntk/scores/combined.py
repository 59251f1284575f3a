"""One score of several: what the kernel, the untrained network and its size say together."""

from __future__ import annotations

import math
from collections.abc import Mapping

from nas_cntk.scores.cost import BATCH

COMPONENTS = ("holdout_mse", "jacov", "synflow", "params")

# Mean and deviation of each part over the live ones of 600 random cells of NAS-Bench-201 with even `arch_index`
# (CIFAR-10, kernels at 8x8 with 300 images and 50 held out, networks at 32x32), by `benchmarks/fit_combined.py`. The
# parts, their scales and the shape of the sum were chosen on the same cells, with equal weights.
_FITTED: Mapping[str, tuple[float, float]] = {
    "holdout_mse": (2.471, 0.0346),
    "jacov": (-1.84, 2.14),
    "synflow": (57.63, 20.7),
    "params": (12.59, 0.768),  # without the edges that nothing reads
}


def combined(values: Mapping[str, float], images: int = BATCH) -> float:
    """Return z of the kernel's error plus log Phi(z) of each of the others; NaN if one is not defined.

    z are the components standardised, and Phi(z) is the share of normal values below z: a sum of the logs of expected
    ranks, so that what one component calls bad stays bad whatever the others say. The kernel's error falls with the
    size of the subset, and Phi would soon be 1 for all: it enters as it is. One architecture has a value of its own,
    whatever else was scored, so a sampler can learn from it; on other data than CIFAR-10, and for networks of another
    size, the balance between the components is a guess.

    Args:
        values: at least the scores of `COMPONENTS`; parameters without those that nothing reads.
        images: that jacov saw.

    Source: Lee and Ham, "AZ-NAS" (2024), for sums of log ranks.
    """
    return sum(parts(values, images).values())


def parts(values: Mapping[str, float], images: int = BATCH) -> dict[str, float]:
    """Return what each of `COMPONENTS` brings to `combined`, of the same arguments."""
    from scipy.special import log_ndtr

    found = {}
    for name, (mean, deviation) in _FITTED.items():
        z = (transformed(name, values[name], images) - mean) / deviation
        found[name] = z if name == "holdout_mse" else float(log_ndtr(z))
    return found


def transformed(name: str, value: float, images: int = BATCH) -> float:
    """Return a score on the scale on which it is standardised: the more the better.

    Errors and sizes enter as logs. jacov is at most -images, where no image's gradient resembles another's: it enters
    as minus the log of what it lacks of that.
    """
    if math.isnan(value):
        return math.nan
    if name in ("holdout_mse", "loo_mse"):
        return -_log(value)
    if name == "jacov":
        return -_log(-value - images)
    return _log(value) if name == "params" else value


def _log(value: float) -> float:
    return math.log(max(value, 1e-300))
