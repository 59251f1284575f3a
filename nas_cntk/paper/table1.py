"""Table 1: CNNs and exact kernels on CIFAR-10, by depth.

Source: section 5.1.
"""

from __future__ import annotations

from nas_cntk.paper import columns, figures
from nas_cntk.paper.bench import Bench, Unit
from nas_cntk.paper.cnn_column import CnnUnit, training_settings
from nas_cntk.paper.kernel_column import DTYPE, KernelUnit
from nas_cntk.paper.wishes import chosen_columns

NAME = "table1"
COLUMNS = tuple(column.name for column in columns.TABLE_1)


def units(bench: Bench) -> list[Unit]:
    """Return one unit a column."""
    wishes = bench.wishes
    depths = wishes.depths or figures.DEPTHS
    wanted = chosen_columns(wishes.columns, COLUMNS)
    found: list[Unit] = []
    for column in columns.TABLE_1:
        if column.name not in wanted:
            continue
        if column.kind == "cnn":
            settings = training_settings(wishes)
            cells = tuple(bench.asked(NAME, column, depth, settings) for depth in depths)
            found.append(CnnUnit(bench, column.name, cells))
        else:
            cells = tuple(bench.asked(NAME, column, depth, {"dtype": DTYPE}) for depth in depths)
            found.append(KernelUnit(bench, column.name, cells))
    return found
