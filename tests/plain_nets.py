"""Chains of 3x3 convs and relus, for tests that need some network."""

from __future__ import annotations

from nas_cntk import Builder
from nas_cntk.architecture import Architecture


def plain(convs: int, head: str = "flatten") -> Architecture:
    """Return a chain under flatten, or under global average pooling for any other head."""
    b = Builder()
    x = b.input()
    for _ in range(convs):
        x = b.relu(b.conv(x, 3))
    b.dense(b.flatten(x) if head == "flatten" else b.global_avg_pool(x))
    return b.build()
