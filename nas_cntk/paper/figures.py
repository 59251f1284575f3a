"""What the paper prints: depths, sizes and accuracies in percent.

Source: Arora et al., "On Exact Computation with an Infinitely Wide Neural Net" (2019), Tables 1 and 2.
"""

from __future__ import annotations

from collections.abc import Mapping

DEPTHS = (3, 4, 6, 11, 21)
"""All layers counted, convs and the readout: depth d has d - 1 convs."""

SIDE = 32
TRAIN, TRAIN_2K, TEST = 50_000, 2_000, 10_000
CHANNELS, DRAWS = 128, 10  # of the random features
TRAIN_CIFAR2, TEST_CIFAR2 = 10_000, 2_000  # all images of two classes

TABLE_1: Mapping[str, tuple[float, ...]] = {
    "CNN-V": (61.97, 62.12, 64.03, 70.97, 80.56),
    "CNTK-V": (64.47, 65.52, 66.03, 65.90, 64.09),
    "CNTK-V-2K": (40.94, 42.54, 43.43, 43.42, 42.53),
    "CNN-GAP": (57.96, 80.58, 80.97, 75.45, 81.23),
    "CNTK-GAP": (70.47, 75.93, 76.73, 77.43, 77.08),
    "CNTK-GAP-2K": (49.71, 51.06, 51.73, 51.92, 52.22),
}

TABLE_2: Mapping[str, tuple[float, ...]] = {
    "RF-V": (87.25, 87.78, 88.73, 87.80, 85.35),
    "CNTK-V": (92.15, 92.80, 93.10, 93.05, 91.95),
    "RF-GAP": (51.10, 52.85, 53.98, 56.55, 90.65),
    "CNTK-GAP": (71.05, 94.50, 95.25, 95.40, 95.70),
}
