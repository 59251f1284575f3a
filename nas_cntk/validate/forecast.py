"""What a validation will cost, from timings of a second each; and how many images a time allows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nas_cntk.errors import StudyError
from nas_cntk.kernels import cost
from nas_cntk.kernels.exact import kernel
from nas_cntk.kernels.filling import Single
from nas_cntk.validate.full_kernel import kernel_kind
from nas_cntk.validate.images import SPLIT_FRACTION, Images
from nas_cntk.validate.job import Bench, memory_errors, training_sets
from nas_cntk.validate.selection import Candidate

if TYPE_CHECKING:
    import torch

TIMED = 0.6  # seconds of a kernel's timing
SIDES = (256, 192, 128, 96, 64, 48, 32, 16)  # of the block that is timed
FEWEST_TEST_IMAGES = 2000  # that a kernel is tested on where its training images had to be lowered
FEWEST_TRAIN_IMAGES = 100

Seconds = Callable[[int, int], float]  # of n training and m test images


@dataclass(frozen=True, slots=True)
class Unit:
    """A validation to be computed, and what it is predicted to take."""

    candidate: Candidate
    kind: str  # cnn | kernel
    seconds: Seconds


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many images the units of each kind are given, the same for all, so that they can be compared."""

    cnn: int
    kernel: int
    kernel_test: int
    notes: tuple[str, ...] = ()

    def of(self, unit: Unit, tests: int) -> tuple[int, int]:
        """Return training and test images of a unit, of a set of `tests` test images."""
        return (self.cnn, tests) if unit.kind == "cnn" else (self.kernel, self.kernel_test)


def unit(bench: Bench, candidate: Candidate, kind: str) -> Unit:
    """Return a unit, after timing what it does most."""
    if kind == "kernel":
        return Unit(candidate, kind, _of_kernel(bench, candidate))
    return Unit(candidate, kind, _of_standard(bench, candidate) if _standard(bench) else _of_paper(bench, candidate))


def fit(bench: Bench, units: Sequence[Unit], most: int) -> Sizes:
    """Return the numbers of images with which the units fit into the time, `most` training images if they do.

    CNNs and kernels have half of the time each, and what the others leave. Where kernels do not fit, they are tested
    on no more images than they have for training (2,000 at least): on all, the test would leave little for the rest.

    Raises:
        StudyError: if not even a hundred images fit.
    """
    dataset, limit = bench.images.dataset, bench.wishes.max_seconds
    tests = len(dataset.y_test)
    total = {kind: _total([u for u in units if u.kind == kind]) for kind in ("cnn", "kernel")}
    wanted = {kind: total[kind](most, tests) for kind in total}
    if sum(wanted.values()) <= limit:
        return Sizes(most, most, tests)
    notes, sizes = [], {"cnn": most, "kernel": most}
    kernel_test = tests
    for kind, other in (("cnn", "kernel"), ("kernel", "cnn")):
        allowed = max(limit / 2, limit - wanted[other])
        if wanted[kind] <= allowed:
            continue

        def images(n: int, kind: str = kind) -> tuple[int, int]:
            return n, (min(tests, max(FEWEST_TEST_IMAGES, n)) if kind == "kernel" else tests)

        fewest = min(most, max(FEWEST_TRAIN_IMAGES, bench.images.fewest()))
        if total[kind](*images(fewest)) > allowed:
            raise StudyError(
                f"{len([u for u in units if u.kind == kind])} {_PLURAL[kind]} would take"
                f" {total[kind](*images(fewest)):.0f} s with {fewest} training images, and have {allowed:.0f} s;"
                " raise --max-seconds, or choose fewer with --top"
            )
        low, high = fewest, most
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if total[kind](*images(middle)) <= allowed else (low, middle)
        sizes[kind] = max(fewest, _two_digits(low))
        note = f"{_PLURAL[kind]} get {sizes[kind]:,} of {most:,} training images, to end within the time"
        if kind == "kernel":
            kernel_test = images(sizes[kind])[1]
            if kernel_test < tests:
                note += f", and {kernel_test:,} of {tests:,} test images"
        notes.append(f"{note} (--max-seconds {limit:g})")
    return Sizes(sizes["cnn"], sizes["kernel"], kernel_test, tuple(notes))


_PLURAL = {"cnn": "CNNs", "kernel": "full kernels"}


def _standard(bench: Bench) -> bool:
    return bench.wishes.recipe == "standard"


def _total(units: Sequence[Unit]) -> Seconds:
    return lambda n, m: sum(one.seconds(n, m) for one in units)


def _two_digits(n: int) -> int:
    step = int(10 ** max(0, len(str(n)) - 2))
    return n // step * step


def _of_training(step: float, batch: int, epochs: int, points: int) -> Seconds:
    # A forward pass is a third of a step; the split is seen every epoch, the test set once.
    def seconds(n: int, m: int) -> float:
        steps = math.ceil((1 - SPLIT_FRACTION) * n / batch)
        seen = epochs * SPLIT_FRACTION * n + m
        return points * (epochs * steps * step + seen * step / batch / 3)

    return seconds


def _of_standard(bench: Bench, candidate: Candidate) -> Seconds:
    from nas_cntk.validate import standard_recipe
    from nas_cntk.validate.training import time_step, torch_threads

    dataset = bench.images.dataset
    n = len(dataset.y_train)
    plan = standard_recipe.schedule(bench, n)
    width = bench.wishes.width_of_recipe
    flops = candidate.architecture.count_flops(dataset.image_shape, dataset.num_classes, width)
    data, _ = training_sets(bench, min(n, max(4 * plan.batch, bench.images.fewest())), bench.devices.train)
    with memory_errors(candidate.number), torch_threads(flops * plan.batch):
        net = standard_recipe.network(bench, candidate.architecture)
        step = time_step(_placed(bench, net), data, plan)
    return _of_training(step, plan.batch, plan.epochs, 1)


def _of_paper(bench: Bench, candidate: Candidate) -> Seconds:
    from nas_cntk.validate import paper_grid
    from nas_cntk.validate.finite import finite_network
    from nas_cntk.validate.training import time_step, torch_threads

    dataset = bench.images.dataset
    n = len(dataset.y_train)
    parts: list[Seconds] = []
    plan = paper_grid.schedule(n, bench.wishes.epochs_of_recipe, 1.0, bench.seed)
    for width in paper_grid.widths(bench.wishes.width_of_recipe):
        flops = candidate.architecture.count_flops(dataset.image_shape, dataset.num_classes, width)
        data, _ = training_sets(bench, min(n, max(4 * plan.batch, bench.images.fewest())), bench.devices.train)
        with memory_errors(candidate.number), torch_threads(flops * plan.batch):
            net = finite_network(
                candidate.architecture, dataset.image_shape, dataset.num_classes, width, seed=plan.seed
            )
            step = time_step(_placed(bench, net), data, plan)
        points = len(paper_grid.KAPPAS) * len(paper_grid.STEPS)
        parts.append(_of_training(step, plan.batch, plan.epochs, points))
    pair = _seconds_a_pair(bench, candidate, "ntk")
    chosen_by = paper_grid.EIGENVALUE_IMAGES
    return lambda n, m: sum(part(n, m) for part in parts) + pair * min(n, chosen_by) ** 2 / 2


def _placed(bench: Bench, net: torch.nn.Module) -> torch.nn.Module:
    import torch

    placed: torch.nn.Module = net.to(device=bench.devices.train, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return placed


def _of_kernel(bench: Bench, candidate: Candidate) -> Seconds:
    pair = _seconds_a_pair(bench, candidate, kernel_kind(bench, candidate.architecture.trainable))
    flop = _seconds_a_flop()

    def seconds(n: int, m: int) -> float:
        # A float32 factor of n^3 / 3 multiply-adds, and some dozens of products of n^2 in float64.
        return pair * (n * (n + 1) / 2 + n * m) + flop * (n**3 / 3 + 400.0 * n**2)

    return seconds


def _seconds_a_pair(bench: Bench, candidate: Candidate, kind: Single) -> float:
    arch, x = candidate.architecture, bench.images.dataset.x_train
    guess = cost.entry_layers(arch, x.shape[1:], 1) / (1e7 if bench.backend == "reference" else 1e9)
    side = next((side for side in SIDES if side <= len(x) // 2 and side**2 * guess <= TIMED), SIDES[-1])
    side = max(1, min(side, len(x) // 2))  # so that there are two blocks of the fewest images, too
    x1, x2 = x[:side], x[side : 2 * side]

    def block(a: Images, b: Images) -> None:
        kernel(arch, a, b, kind=kind, backend=bench.backend, dtype=bench.dtype, devices=bench.kernel_gpus)

    block(x1[:1], x2[:1])
    times: list[float] = []
    while not times or (sum(times) < TIMED / 2 and len(times) < 5):
        started = time.perf_counter()
        block(x1, x2)
        times.append(time.perf_counter() - started)
    return float(np.median(times)) / (len(x1) * len(x2))


def _seconds_a_flop() -> float:
    a = np.ones((768, 768), dtype=np.float32)
    a @ a
    started = time.perf_counter()
    a @ a
    return 2 * (time.perf_counter() - started) / 768**3  # a solve reaches about half of a product's speed
