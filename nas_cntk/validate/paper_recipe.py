"""The paper's recipe: quadratic loss, plain SGD at a constant rate, no tricks, the best of a grid.

The grid is learning rate x width x kappa. Learning rates are multiples of the largest stable step of full-batch
gradient descent, which the kernel gives: 2 / (kappa^2 lambda_max(K) / n) for the mean over images of
1/2 sum (f - y)^2. The point is chosen on a split of the training set; the paper reports the best on the test set,
which is kept as a second figure, `best_on_test`.

Source: section 6, the setup; section 3.4 for kappa.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas_cntk.architecture import Architecture
from nas_cntk.errors import StudyError
from nas_cntk.kernels.exact import kernel
from nas_cntk.records import validations
from nas_cntk.records.validations import Validation
from nas_cntk.validate.artifacts import checkpoint_path, save_weights, weights_path
from nas_cntk.validate.finite import FiniteNetwork, finite_network
from nas_cntk.validate.job import Bench, Job, memory_errors, test_set, training_sets
from nas_cntk.validate.training import Schedule, TensorSet, evaluate, threads_for, train

VERSION = 1
STEPS = (0.5, 1.0, 2.0)  # of the largest stable one; at 2 kappa 1 learns fastest, while kappa 0.1 mostly diverges
KAPPAS = (1.0, 0.1)
MANY_IMAGES = 10_000
EIGENVALUE_IMAGES = 256  # of which the greatest eigenvalue is taken
POWER_ITERATIONS = 100


@dataclass(frozen=True, slots=True)
class Point:
    """A point of the grid."""

    step: float  # in multiples of the largest stable one
    width: int
    kappa: float
    learning_rate: float


def widths(width: int) -> tuple[int, ...]:
    """Return the widths of the grid: half of the greatest, and the greatest."""
    return tuple(dict.fromkeys((max(1, width // 2), width)))


def grid(width: int, eigenvalue: float) -> list[Point]:
    """Return the points, the narrow ones first.

    Args:
        eigenvalue: the greatest of the training kernel over the number of images.

    Raises:
        StudyError: if it is zero, so that no step follows from it.
    """
    if not eigenvalue > 0:
        raise StudyError(
            f"the paper's recipe takes its learning rates from the kernel, whose greatest eigenvalue is {eigenvalue:g};"
            " use --recipe standard"
        )
    return [
        Point(step, w, kappa, step * 2 / (kappa**2 * eigenvalue))
        for w, kappa, step in itertools.product(widths(width), KAPPAS, STEPS)
    ]


def largest_eigenvalue(matrix: NDArray[np.floating]) -> float:
    """Return the greatest eigenvalue of a positive semidefinite matrix, by power iteration in float64."""
    k = np.asarray(matrix, dtype=np.float64)
    v = np.full(len(k), 1 / np.sqrt(len(k)))  # kernels are positive here: never orthogonal to the answer
    value = 0.0
    for _ in range(POWER_ITERATIONS):
        w = k @ v
        before, value = value, float(np.linalg.norm(w))
        if value == 0 or abs(value - before) < 1e-9 * value:
            break
        v = w / value
    return value


def relative_eigenvalue(
    architecture: Architecture, images: NDArray[np.floating], backend: str, gpus: Sequence[int] | None = None
) -> float:
    """Return the greatest eigenvalue of the ntk of some training images over their number.

    It hardly depends on how many there are: the leading eigenvector is close to a constant, and its eigenvalue grows
    like n. Six digits of it: the last ones depend on how a matrix product is divided, and a training that is resumed
    must find the learning rate that it had.
    """
    value = largest_eigenvalue(kernel(architecture, images, backend=backend, devices=gpus)) / len(images)
    return float(f"{value:.6g}")


def schedule(bench: Bench, n: int, point: Point) -> Schedule:
    """Return how the network of a point is trained on n images."""
    return Schedule(
        loss="quadratic",
        epochs=bench.wishes.epochs_of_recipe,
        batch=32 if n < MANY_IMAGES else 128,
        learning_rate=point.learning_rate,
        seed=bench.seed,
    )


def network(bench: Bench, architecture: Architecture, width: int, kappa: float) -> FiniteNetwork:
    """Return the finite twin before training."""
    dataset = bench.images.dataset
    return finite_network(architecture, dataset.image_shape, dataset.num_classes, width, kappa, seed=bench.seed)


def run(job: Job) -> Validation:
    """Train the grid, choose on the split, and return what is to be recorded.

    Raises:
        StudyError: if memory is short.
        RecordsError: if weights or checkpoints cannot be written.
        KeyboardInterrupt: if cancelled; finished points and the last checkpoint stay.
    """
    bench, candidate, device = job.bench, job.candidate, job.bench.devices.train
    dataset, n = bench.images.dataset, job.train_images
    data, split = training_sets(bench, n, device)
    test = test_set(bench, device)
    chosen_by = min(EIGENVALUE_IMAGES, n)
    leading = bench.images.train(n)[0][:chosen_by]
    eigenvalue = relative_eigenvalue(candidate.architecture, leading, bench.backend, bench.kernel_gpus)
    results: list[dict[str, object]] = []
    best: tuple[float, float] | None = None
    points = grid(bench.wishes.width_of_recipe, eigenvalue)
    for point, share in _shares(points):
        result = _trained(job, point, data, split, test, share, best)
        results.append(result)
        if not result["diverged"]:
            rank = ranking(result)
            best = rank if best is None else max(best, rank)
        job.progress(share[1])
    checkpoint_path(bench.db, bench.study.name, candidate.key, "paper").unlink(missing_ok=True)
    right = [result for result in results if not result["diverged"]]
    chosen = max(right, key=ranking) if right else None
    accuracy = None if chosen is None else float(str(chosen["test_accuracy"]))
    images = len(dataset.y_test)
    weights = weights_path(bench.db, bench.study.name, candidate.key, "paper")
    return job.result(
        "cnn",
        "paper",
        accuracy,
        images,
        sum(float(str(result["seconds"])) for result in results),
        {
            "chosen": chosen,
            "best_on_test": max((float(str(result["test_accuracy"])) for result in right), default=None),
            "grid": results,
            "diverged": chosen is None,
            "points_diverged": len(results) - len(right),
            "largest_stable_step": 2 / eigenvalue,  # for kappa 1
            "epochs": bench.wishes.epochs_of_recipe,
            "width": bench.wishes.width_of_recipe,
            "split_images": len(split),
            "device": str(device),
            "weights": {"file": weights.name} if chosen is not None else None,
        },
    )


def _shares(points: list[Point]) -> Iterator[tuple[Point, tuple[float, float]]]:
    # Which part of the whole progress each point is: wide networks take about four times as long.
    weights = [float(point.width) ** 2 for point in points]
    total, before = sum(weights), 0.0
    for point, weight in zip(points, weights, strict=True):
        yield point, (before / total, (before + weight) / total)
        before += weight


def ranking(result: dict[str, object]) -> tuple[float, float]:
    return float(str(result["split_accuracy"])), -float(str(result["split_loss"]))


def _trained(
    job: Job,
    point: Point,
    data: TensorSet,
    split: TensorSet,
    test: TensorSet,
    share: tuple[float, float],
    best: tuple[float, float] | None,
) -> dict[str, object]:
    """Return the recorded result of a point, or train it; the weights of the best so far are kept."""
    import torch

    bench, candidate = job.bench, job.candidate
    dataset, n = bench.images.dataset, job.train_images
    plan = schedule(bench, n, point)
    settings = job.settings(plan, "paper", VERSION, width=point.width, kappa=point.kappa)
    known = validations.find_point(bench.records, bench.study.study_id, candidate.key, "paper", settings)
    if known is not None:
        return known
    flops = candidate.architecture.count_flops(dataset.image_shape, dataset.num_classes, point.width)
    with memory_errors(candidate.number), threads_for(flops * plan.batch):
        net = network(bench, candidate.architecture, point.width, point.kappa)
        net.to(device=bench.devices.train, memory_format=torch.channels_last)  # type: ignore[call-overload]
        found = train(
            net,
            data,
            split,
            plan,
            checkpoint=checkpoint_path(bench.db, bench.study.name, candidate.key, "paper"),
            settings=settings,
            progress=lambda fraction: job.progress(share[0] + fraction * (share[1] - share[0])),
            cancelled=job.cancelled,
        )
        accuracy = None
        if not found.diverged:
            accuracy = evaluate(net, test, plan.loss)[1] / len(test)
    result: dict[str, object] = {
        "learning_rate": point.learning_rate,
        "step": point.step,
        "width": point.width,
        "kappa": point.kappa,
        "diverged": found.diverged,
        "split_accuracy": found.split_accuracy,
        "split_loss": found.split_loss,
        "train_loss": found.train_loss,
        "test_accuracy": accuracy,
        "epochs": found.epochs,
        "seconds": found.seconds,
    }
    if not found.diverged and (best is None or ranking(result) > best):
        # Before the point is recorded: killed in between, it is trained again and its weights are written again.
        path = weights_path(bench.db, bench.study.name, candidate.key, "paper")
        metadata = job.metadata("paper", "ntk", width=point.width, kappa=point.kappa)  # of `finite_network`
        save_weights(path, net.state_dict(), metadata)
    validations.record_point(bench.records, bench.study.study_id, candidate.key, "paper", settings, result)
    return result
