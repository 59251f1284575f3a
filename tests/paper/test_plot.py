"""Plots: what stands on one axis may be compared."""

from __future__ import annotations

import numpy as np
import pytest

from nas_cntk.paper.bench import packed
from nas_cntk.paper.columns import Size
from nas_cntk.paper.plot import draw
from nas_cntk.paper.rows import DONE, Row
from nas_cntk.paper.tables import gains

pytest.importorskip("matplotlib")

PAPERS, FEWER = Size(32, 2_000, 10_000), Size(16, 1_000, 1_000)


def _row(column: str, depth: int, size: Size, accuracy: float, paper: float | None = None) -> Row:
    return Row("table1", column, depth, size, DONE, accuracy, paper, 0.01, 1.0)


def test_columns_on_fewer_images_have_a_panel_of_their_own() -> None:
    rows = [_row("CNTK-V-2K", depth, PAPERS, 0.41, 0.42) for depth in (3, 4)]
    rows += [_row("CNTK-GAP-2K", depth, FEWER, 0.39) for depth in (3, 6)]
    ours, fewer = draw("table1", rows).axes
    assert [one.get_title() for one in (ours, fewer)] == ["on the paper's images", "on fewer or smaller images"]
    assert [len(one.containers) for one in (ours, fewer)] == [1, 1]
    assert list(fewer.containers[0].lines[0].get_xdata()) == [3, 6]
    (one,) = draw("table1", rows[:2]).axes
    assert not one.get_title()


def test_a_column_of_two_sizes_is_two_curves() -> None:
    rows = [_row("CNTK-GAP-2K", depth, size, 0.4) for size in (Size(32, 2_000, 1_000), FEWER) for depth in (3, 4)]
    (axes,) = draw("table1", rows).axes
    curves = [one.lines[0] for one in axes.containers]
    assert [list(curve.get_xdata()) for curve in curves] == [[3, 4], [3, 4]]
    assert curves[0].get_color() != curves[1].get_color()
    assert len({one.get_label() for one in axes.containers}) == 2


def test_kernels_and_random_features_are_compared_at_one_size() -> None:
    def row(column: str, size: Size, byte: str) -> Row:
        return Row("table2", column, 3, size, DONE, 0.5, None, 0.1, 1.0, details={"correct": byte})

    small, large = Size(8, 10, 8), Size(16, 10, 8)
    all_right, none_right = packed(np.ones(8, bool)), packed(np.zeros(8, bool))
    rows = [row("RF-V", small, none_right), row("CNTK-V", small, all_right), row("CNTK-V", large, none_right)]
    assert gains(rows) == ["CNTK-V over RF-V, depth 3: +100.00 ± 0.00 points"]
