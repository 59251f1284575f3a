"""The paper's figures as the paper prints them, and its nets as it describes them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from nas_cntk import kernel
from nas_cntk.paper import columns, figures, networks

# Depth 3 to 21, as printed.
PRINTED_1 = """
3 61.97 64.47 40.94 57.96 70.47 49.71
4 62.12 65.52 42.54 80.58 75.93 51.06
6 64.03 66.03 43.43 80.97 76.73 51.73
11 70.97 65.90 43.42 75.45 77.43 51.92
21 80.56 64.09 42.53 81.23 77.08 52.22
"""
PRINTED_2 = """
3 87.25 92.15 51.10 71.05
4 87.78 92.80 52.85 94.50
6 88.73 93.10 53.98 95.25
11 87.80 93.05 56.55 95.40
21 85.35 91.95 90.65 95.70
"""
NAMES_1 = ("CNN-V", "CNTK-V", "CNTK-V-2K", "CNN-GAP", "CNTK-GAP", "CNTK-GAP-2K")
NAMES_2 = ("RF-V", "CNTK-V", "RF-GAP", "CNTK-GAP")


@pytest.mark.parametrize(
    "known, names, printed", [(columns.TABLE_1, NAMES_1, PRINTED_1), (columns.TABLE_2, NAMES_2, PRINTED_2)]
)
def test_figures_are_those_printed(known: tuple[columns.Column, ...], names: tuple[str, ...], printed: str) -> None:
    assert tuple(column.name for column in known) == names
    lines = [line.split() for line in printed.split("\n") if line]
    assert tuple(int(line[0]) for line in lines) == figures.DEPTHS
    for line in lines:
        for column, text in zip(known, line[1:], strict=True):
            assert column.figure(int(line[0])) == pytest.approx(float(text) / 100, abs=1e-12)
    assert all(column.figure(5) is None for column in known)


def test_figures_are_those_of_the_text(shared_dir: Path) -> None:
    text = (shared_dir / "design" / "paper.txt").read_text(encoding="utf-8")
    rows = re.findall(r"^(\d+)((?:\t[\d.]+%)+)$", text, re.M)
    numbers = [(int(depth), [float(x) for x in re.findall(r"[\d.]+", rest)]) for depth, rest in rows]
    for known in (columns.TABLE_1, columns.TABLE_2):
        of_table = [row for row in numbers if len(row[1]) == len(known)]
        assert [depth for depth, _ in of_table] == list(figures.DEPTHS)
        for depth, printed in of_table:
            assert [round(100 * (column.figure(depth) or 0), 2) for column in known] == printed


def test_the_nets_have_the_layers_that_are_trained() -> None:
    for depth in (3, 6):
        vanilla, pooled = networks.vanilla(depth), networks.pooled(depth)
        of = [getattr(node.op, "trainable", None) for node in vanilla.nodes if hasattr(node.op, "trainable")]
        assert of == [True] * depth
        of = [getattr(node.op, "trainable", None) for node in pooled.nodes if hasattr(node.op, "trainable")]
        assert of == [False] + [True] * (depth - 2) + [False]


def test_a_fully_connected_net_is_one_of_1x1_convs() -> None:
    # Equations 7, 12 and 13, written out for relu.
    x = np.random.default_rng(0).standard_normal((5, 1, 1, 7))
    flat = x.reshape(5, 7)
    s = flat @ flat.T / 7
    theta = s.copy()
    for _ in range(3):
        norms = np.sqrt(np.outer(np.diag(s), np.diag(s)))
        angle = np.clip(s / norms, -1, 1)
        dot = (np.pi - np.arccos(angle)) / np.pi
        s = norms * (angle * (np.pi - np.arccos(angle)) + np.sqrt(1 - angle**2)) / np.pi
        theta = s + theta * dot
    np.testing.assert_allclose(kernel(networks.fully_connected(4), x, dtype="float64"), theta, rtol=1e-6)
