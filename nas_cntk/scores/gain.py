"""What training all layers adds to the alignment that the last one alone gives."""

from __future__ import annotations

from collections.abc import Mapping

PARTS = ("correlation_alignment", "nngp_correlation_alignment")
SHARE = 0.85
"""Of the nngp's alignment is taken off.

By 300 random live cells of NAS-Bench-201 with even `arch_index` (CIFAR-10 at 8x8, 300 images, accuracies after 200
epochs): Spearman over all of them, within the better half and the best quarter was 0.82, 0.26, -0.12 with nothing taken
off, 0.86, 0.39, 0.08 with 0.6, 0.874, 0.58, 0.54 with 0.85, 0.86, 0.59, 0.59 with 0.9, and 0.68, 0.39, 0.51 with 1.
"""


def alignment_gain(values: Mapping[str, float]) -> float:
    """Return the ntk's correlation alignment minus `SHARE` of the nngp's.

    Pooling smooths images and aligns both kernels with the labels without anything being learned; the difference is
    what the layers below the readout learn.

    Args:
        values: at least the scores of `PARTS`.
    """
    trained, readout = (values[name] for name in PARTS)
    return trained - SHARE * readout
