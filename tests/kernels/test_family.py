"""Families: architectures evaluated together equal the same architectures alone."""

from __future__ import annotations

import numpy as np
import pytest
from random_architectures import random_architecture, random_images

from nas_cntk import Architecture, Builder, kernel, kernel_family
from nas_cntk.errors import IllegalArchitecture
from nas_cntk.kernels.cost import entry_layers

HEADS = ("flatten", "local", "global")


def plain(depth: int, head: str, trained_readout: bool = True) -> Architecture:
    b = Builder()
    x = b.input()
    for _ in range(depth):
        x = b.relu(b.conv(x, 3))
    if head == "local":
        x = b.avg_pool(x, 2)
    b.dense(b.global_avg_pool(x) if head == "global" else b.flatten(x), trained_readout)
    return b.build()


def compare(archs: list[Architecture], shape: tuple[int, int, int], backend: str = "cpu") -> None:
    x1, x2 = random_images(1, 3, shape), random_images(2, 4, shape)
    for images in ((x1, x2), (x1, None)):
        for dtype, tolerance in (("float64", 1e-13), ("float32", 1e-5)):
            for kind in ("both", "ntk", "nngp"):
                together = kernel_family(archs, *images, kind=kind, backend=backend, dtype=dtype)
                assert len(together) == len(archs)
                for arch, got in zip(archs, together, strict=True):
                    alone = kernel(arch, *images, kind=kind, backend=backend, dtype=dtype)
                    scale = np.abs(alone).max() or 1.0
                    np.testing.assert_allclose(got, alone, rtol=0, atol=tolerance * scale, err_msg=arch.to_json())


@pytest.mark.parametrize("seed", range(4))
def test_random_families(seed: int) -> None:
    shape = ((5, 4, 3), (4, 4, 1), (6, 3, 2), (1, 1, 2))[seed]
    archs = [random_architecture(6000 + 10 * seed + i, shape)[1] for i in range(7)]
    archs += [archs[0], plain(2, "global"), plain(4, "flatten"), archs[3]]  # the same one twice, and plain ones
    compare(archs, shape)


def test_depths_and_heads_share_their_prefix() -> None:
    archs = [plain(depth, head) for depth in (0, 1, 2, 4) for head in HEADS if depth or head == "flatten"]
    archs += [plain(2, "global", trained_readout=False)]
    compare(archs, (6, 6, 1))
    together = entry_layers(archs, (6, 6, 1), 1)
    assert together < 1.2 * entry_layers(archs[-2], (6, 6, 1), 1)


@pytest.mark.parametrize("size", [2, 4])
def test_a_field_that_a_head_needs_more_widely_than_the_layer_after_it(size: int) -> None:
    b = Builder()
    b.dense(b.global_avg_pool(b.conv(b.input(), 3)))
    wide = b.build()
    b = Builder()
    x = b.relu(b.conv(b.relu(b.conv(b.input(), 3)), 3))
    b.dense(b.flatten(b.avg_pool(x, size)))
    compare([wide, b.build()], (8, 8, 2))


def test_more_heads_than_one_program_holds() -> None:
    archs = [plain(depth, head, trained) for depth in range(1, 13) for head in HEADS for trained in (True, False)]
    archs += [random_architecture(6100 + i, (4, 3, 2))[1] for i in range(40)]
    assert len(archs) > 64 + 40
    x1, x2 = random_images(1, 2, (4, 3, 2)), random_images(2, 3, (4, 3, 2))
    seen: list[float] = []
    together = kernel_family(archs, x1, x2, backend="cpu", dtype="float64", progress=seen.append)
    assert seen == sorted(seen) and seen[-1] == pytest.approx(1)
    for arch, got in zip(archs, together, strict=True):
        alone = kernel(arch, x1, x2, backend="cpu", dtype="float64")
        np.testing.assert_allclose(got, alone, rtol=0, atol=1e-13 * np.abs(alone).max(), err_msg=arch.to_json())


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_twins_stay_apart_in_a_family(backend: str) -> None:
    """One conv read twice and two twin convs differ by a factor of two, also where a family computes them together."""

    def net(twins: bool) -> Architecture:
        b = Builder()
        relu = b.relu(b.conv(b.input(), 3))
        one = b.conv(relu, 3)
        b.dense(b.flatten(b.add(one, b.conv(relu, 3) if twins else one)), trainable=False)
        return b.build()

    x = random_images(0, 3, (4, 4, 2))
    apart, twice = kernel_family([net(True), net(False)], x, kind="nngp", backend=backend, dtype="float64")
    np.testing.assert_allclose(twice, 2 * apart, rtol=1e-13)


def test_one_illegal_member_is_named() -> None:
    with pytest.raises(IllegalArchitecture, match="node 3"):
        kernel_family([plain(2, "flatten"), plain(1, "local")], np.ones((1, 1, 1, 1)))
