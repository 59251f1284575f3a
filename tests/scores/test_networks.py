"""Scores of finite networks against definitions worked out apart on tiny networks, and against published columns."""

from __future__ import annotations

import csv
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from nas_cntk import nasbench201
from nas_cntk.scores.batch import Batch
from nas_cntk.scores.combined import COMPONENTS, combined
from nas_cntk.scores.grad_norm import grad_norm
from nas_cntk.scores.jacov import jacov
from nas_cntk.scores.naswot import naswot
from nas_cntk.scores.networks import ZERO_COST, network_scores
from nas_cntk.scores.synflow import synflow
from nas_cntk.scores.zico import zico

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
COLUMNS = {"synflow": "synflow", "naswot": "nwot", "jacov": "jacov", "grad_norm": "grad_norm"}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def batch() -> Batch:
    rng = np.random.default_rng(0)
    return Batch.of(rng.standard_normal((6, 4, 4, 2)).astype(np.float32), np.arange(6) % 3)


def tiny(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3)
    )


def test_synflow_is_the_flow_through_absolute_weights(batch: Batch) -> None:
    net = tiny()
    conv, last = net[0].weight.detach().double().abs(), net[4].weight.detach().double().abs()
    # Every path from an input pixel to an output counts once for each of its two weights; the bias adds to no path.
    inner = torch.nn.functional.conv2d(torch.ones(1, 2, 4, 4, dtype=torch.float64), conv, padding=1).flatten()
    flow = float((last @ inner).sum())
    assert synflow(net, batch) == pytest.approx(math.log(2 * flow), rel=1e-12)
    assert net[0].weight.dtype == torch.float32 and bool((net[0].weight < 0).any()), "the network itself is changed"


def test_naswot_counts_relus_that_agree(batch: Batch) -> None:
    net = tiny()
    with torch.no_grad():
        codes = (net[1](net[0](batch.x)) > 0).flatten(1).numpy()
    kernel = (codes[:, None, :] == codes[None, :, :]).sum(axis=2)
    assert naswot(net, batch) == pytest.approx(np.linalg.slogdet(kernel)[1], rel=1e-6)
    functional = lambda x: torch.relu(net[1](net[0](x)))  # noqa: E731  relus that are no modules count too
    assert naswot(functional, batch) == pytest.approx(naswot(net, batch))


def test_jacov_of_gradients_known_in_advance(batch: Batch) -> None:
    class Squares(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x**2).flatten(1).sum(dim=1, keepdim=True)  # its gradient is 2 x

    v = np.linalg.eigvalsh(np.corrcoef(batch.x.flatten(1).numpy())) + 1e-5
    assert jacov(Squares(), batch) == pytest.approx(-(np.log(v) + 1 / v).sum(), rel=1e-3)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(32, 3))  # one gradient for all images: far below
    assert jacov(linear, batch) < -1e5 / 2


def test_grad_norm_and_zico_are_of_weights_alone(batch: Batch) -> None:
    net = tiny()
    net.zero_grad()
    nn.functional.cross_entropy(net(batch.x), batch.y).backward()
    by_hand = float(net[0].weight.grad.norm() + net[4].weight.grad.norm())
    assert grad_norm(net, batch) == pytest.approx(by_hand, rel=1e-6)
    parts = []
    for half in batch.halves():
        net.zero_grad()
        nn.functional.cross_entropy(net(half.x), half.y).backward()
        parts.append([net[0].weight.grad.double().numpy(), net[4].weight.grad.double().numpy()])
    total = 0.0
    for one, other in zip(*parts, strict=True):
        mean, deviation = (np.abs(one) + np.abs(other)) / 2, np.abs(one - other) / 2
        total += math.log((mean[deviation > 0] / deviation[deviation > 0]).sum())
    assert zico(net, batch) == pytest.approx(total, rel=1e-9)


def test_what_is_not_defined_is_nan_and_nothing_is_left_behind() -> None:
    images, labels = np.zeros((8, 4, 4, 2), dtype=np.float32), np.arange(8) % 3
    state = torch.get_rng_state()
    found = network_scores(tiny, tuple(ZERO_COST), (images, labels), (images, labels))
    assert math.isnan(found["naswot"].value)  # equal images: a singular matrix
    assert all(measured.seconds >= 0 for measured in found.values())
    assert torch.equal(state, torch.get_rng_state())
    zero = nn.Sequential(nn.Flatten(), nn.Linear(32, 3).requires_grad_(False))
    zero[1].weight.zero_()
    found = network_scores(lambda: zero, ("synflow", "zico"), (images, labels), (images, labels))
    assert math.isnan(found["synflow"].value) and math.isnan(found["zico"].value)


def test_scores_depend_on_the_seed_alone() -> None:
    rng = np.random.default_rng(1)
    images = rng.standard_normal((70, 8, 8, 3)).astype(np.float32), np.arange(70) % 10
    make = lambda: nasbench201_network("|nor_conv_1x1~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|")  # noqa: E731

    def values(seed: int) -> list[float]:
        found = network_scores(make, (*ZERO_COST, "short_training"), images, images, seed=seed)
        return [measured.value for measured in found.values()]

    first = values(3)
    assert first == values(3) and first != values(4)
    assert all(map(math.isfinite, first)) and 0 <= first[-1] <= 1
    with pytest.raises(KeyboardInterrupt):
        network_scores(make, ("jacov",), images, images, cancelled=lambda: True)


def nasbench201_network(text: str) -> nn.Module:
    from nas_cntk.nasbench201.network import network

    return network(text)


def test_combined_rises_with_each_of_its_components() -> None:
    values = {"holdout_mse": 0.084, "jacov": -75.0, "synflow": 50.0, "params": 4e5}
    assert set(COMPONENTS) == set(values)
    for name, better in (("holdout_mse", 0.08), ("jacov", -70.0), ("synflow", 60.0), ("params", 5e5)):
        assert combined(values | {name: better}) > combined(values)
        assert math.isnan(combined(values | {name: math.nan}))
    assert math.isfinite(combined(values | {"holdout_mse": 0.9, "jacov": -1e6, "synflow": -1e3, "params": 1.0}))
    assert math.isfinite(combined(values | {"holdout_mse": 0.0, "jacov": -64.0}))


def test_what_one_component_calls_bad_is_not_made_good_by_another() -> None:
    middling = {"holdout_mse": 0.0845, "jacov": -70.3, "synflow": 58.0, "params": 2.94e5}
    assert combined(middling) == pytest.approx(3 * math.log(0.5), abs=0.05)  # of each, half are below
    assert combined(middling | {"jacov": -1e4, "params": 1e9, "synflow": 1e3}) < combined(middling)


def test_combined_knows_how_many_images_jacov_saw() -> None:
    values = {"holdout_mse": 0.0845, "synflow": 58.0, "params": 3.5e5}
    assert combined(values | {"jacov": -38.3}, 32) == pytest.approx(combined(values | {"jacov": -70.3}))


@pytest.mark.long
def test_ranks_agree_with_the_published_columns() -> None:
    """On 10 cells; over 300 of them see docs/scores.md."""
    archive, table = SHARED / "cifar-10-batches-py.tar.xz", SHARED / "nasbench201" / "zero_cost.csv"
    if not (archive.exists() and table.exists()):
        pytest.skip("CIFAR-10 and the published scores are not there")
    from nas_cntk import data

    dataset = data.standardise(data.load(f"cifar10:{archive}"))
    split = data.split(dataset, 100, 100, 0)
    images = split.x, split.y
    with open(table, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if nasbench201.is_live(row["arch_str"])]
    rows = random.Random(0).sample(rows, 10)
    found = [
        network_scores(lambda row=row: nasbench201_network(row["arch_str"]), tuple(COLUMNS), images, images)
        for row in rows
    ]
    for name, column in COLUMNS.items():
        ours, published = [one[name].value for one in found], [float(row[column]) for row in rows]
        assert spearmanr(ours, published)[0] > 0.8, name
