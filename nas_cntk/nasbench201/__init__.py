"""NAS-Bench-201 as this project sees it: its cells, their infinitely wide networks, and the benchmark's own network.

Source: Dong and Yang, "NAS-Bench-201: extending the scope of reproducible neural architecture search" (2020).
"""

from nas_cntk.nasbench201.cells import (
    EDGES,
    OPS,
    architecture,
    convs,
    edges_of,
    every,
    is_live,
    parse,
    pruned,
    sizes,
    text_of,
)

__all__ = [
    "EDGES",
    "OPS",
    "architecture",
    "convs",
    "edges_of",
    "every",
    "is_live",
    "parse",
    "pruned",
    "sizes",
    "text_of",
]
