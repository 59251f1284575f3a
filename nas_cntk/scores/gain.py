"""What training all layers adds to the alignment that the last one alone gives."""

from __future__ import annotations

from collections.abc import Mapping

PARTS = ("correlation_alignment", "nngp_correlation_alignment")
SHARE = 0.7
"""Of the nngp's alignment is taken off.

Chosen by random live cells of NAS-Bench-201 with even `arch_index` (CIFAR-10 at 8x8, accuracies after 200 epochs).
Spearman over all, and within the better half:

    taken off   300 cells, one cell a stage, 600 images   200 cells, three cells a stage, 200 images
    0           0.85  0.29                                0.86  0.54
    0.6         0.87  0.40                                0.87  0.62
    0.7         0.87  0.43                                0.84  0.61
    0.85        0.87  0.59                                0.71  0.40
    1           0.62  0.39

More is better for shallow networks and worse for deep ones, whose two kernels are closer.
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
