"""Cells by their strings: parsing, liveness, sizes as the benchmark counts them, and the kernel's network."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from nas_cntk import kernel, nasbench201
from nas_cntk.errors import ArchitectureError

TABLES = Path(__file__).resolve().parents[3] / "shared" / "data" / "nasbench201"
RESIDUAL = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|avg_pool_3x3~0|none~1|skip_connect~2|"
DEAD = "|none~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|none~0|nor_conv_3x3~1|none~2|"


def test_every_cell_is_there_once_and_comes_back_from_its_parameters() -> None:
    names = list(nasbench201.every())
    assert len(names) == len(set(names)) == 15_625
    for name in names[::97]:
        assert nasbench201.text_of(nasbench201.edges_of(name)) == name
        assert nasbench201.text_of(nasbench201.parse(name)) == name
    assert sum(map(nasbench201.is_live, names)) == 15_284


def test_dead_cells_have_no_network() -> None:
    assert nasbench201.is_live(RESIDUAL) and not nasbench201.is_live(DEAD)
    assert (nasbench201.convs(RESIDUAL), nasbench201.convs(DEAD)) == (2, 3)
    with pytest.raises(ArchitectureError, match="is dead"):
        nasbench201.architecture(DEAD)


@pytest.mark.parametrize(
    "text",
    ["", "|", RESIDUAL[:-1] + "|none~3|", RESIDUAL.replace("1x1", "5x5"), RESIDUAL.replace("~2", "~1"), "x" * 10_000],
)
def test_what_is_no_cell_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ArchitectureError, match="no NAS-Bench-201 cell") as caught:
        nasbench201.parse(text)
    assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)


def test_sizes_are_those_of_the_network() -> None:
    from nas_cntk.nasbench201.network import network

    for text in (RESIDUAL, DEAD, nasbench201.text_of(("nor_conv_3x3",) * 6)):
        net = network(text)
        assert nasbench201.sizes(text)[0] == sum(weight.numel() for weight in net.parameters())
        assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    # The largest cell, as the benchmark publishes it.
    assert nasbench201.sizes(nasbench201.text_of(("nor_conv_3x3",) * 6)) == (1_531_546, 220_119_690)


def test_pruning_leaves_the_network_and_its_least_size() -> None:
    cell = "|nor_conv_3x3~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|avg_pool_3x3~2|"
    assert nasbench201.pruned(cell) == "|none~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|"
    assert nasbench201.pruned(DEAD) == nasbench201.text_of(("none",) * 6)
    of_pruned: dict[str, set[tuple[int, int]]] = {}
    for text in list(nasbench201.every())[::7]:
        if nasbench201.is_live(text):
            key, pruned = nasbench201.architecture(text).key, nasbench201.pruned(text)
            assert nasbench201.architecture(pruned).key == key and nasbench201.pruned(pruned) == pruned
            of_pruned.setdefault(key, set()).add(nasbench201.sizes(pruned))
    assert all(len(sizes) == 1 for sizes in of_pruned.values()), "equal networks, different sizes"


def test_sizes_are_the_published_ones() -> None:
    if not TABLES.is_dir():
        pytest.skip("the tables of NAS-Bench-201 are not there")
    with open(TABLES / "cifar10.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    differ = 0
    for row in rows:
        params, flops = nasbench201.sizes(row["arch_str"])
        apart = abs(params / 1e6 - float(row["params_m"])), abs(flops / 1e6 - float(row["flops_m"]))
        differ += max(apart) > 1.1e-5  # as they are printed
    # 78 of 7,765 rows of the table contradict their own cell (and the other published table).
    assert differ <= 0.011 * len(rows)


def test_the_kernels_network_is_the_one_described() -> None:
    """By hand, for the cell that is its input: a stem and two residual blocks."""
    from nas_cntk import Builder

    skip = "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
    b = Builder()
    x = b.conv(b.input(), 3)
    for _ in range(2):
        y = b.conv(b.relu(b.conv(b.relu(x), 3, stride=2)), 3)
        x = b.add(y, b.conv(b.avg_pool(x, 2, stride=2), 1))
    b.dense(b.global_avg_pool(b.relu(x)))
    assert nasbench201.architecture(skip).key == b.build().key
    images = np.random.default_rng(0).standard_normal((2, 4, 4, 1)).astype(np.float32)
    for text in (RESIDUAL, skip):
        for cells in (1, 2):
            arch = nasbench201.architecture(text, cells)
            fast, slow = kernel(arch, images), kernel(arch, images, backend="reference")
            assert np.abs(fast - slow).max() < 1e-5 * np.abs(slow).max()
