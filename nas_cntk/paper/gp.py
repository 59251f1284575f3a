"""Weakly trained nets beside fully trained ones: the kernels nngp and ntk of the same nets on the same images.

The paper prints no such table. Both kernels of a depth come from one pass.

Source: section 3.1, of nets of which only the last layer is trained; Lee et al. 2018.
"""

from __future__ import annotations

from nas_cntk.paper import columns, figures
from nas_cntk.paper.bench import Bench, Unit
from nas_cntk.paper.kernel_column import DTYPE, KernelUnit
from nas_cntk.paper.wishes import chosen_columns

NAME = "gp"
COLUMNS = tuple(column.name for column in columns.GP)


def units(bench: Bench) -> list[Unit]:
    """Return one unit a kind of net: its nngp and its ntk."""
    wishes = bench.wishes
    depths = wishes.depths or figures.DEPTHS
    wanted = chosen_columns(wishes.columns, COLUMNS)
    found: list[Unit] = []
    for head in ("V", "GAP"):
        together = [column for column in columns.GP if column.head == head and column.name in wanted]
        if together:
            cells = tuple(bench.asked(NAME, one, depth, {"dtype": DTYPE}) for one in together for depth in depths)
            found.append(KernelUnit(bench, " + ".join(one.name for one in together), cells))
    return found
