"""The grid of the paper's recipe, and how one point of it is trained and chosen, whoever asks.

The grid is learning rate x width x kappa. Learning rates are multiples of the largest stable step of full-batch
gradient descent, which the kernel gives: 2 / (kappa^2 lambda_max(K) / n) for the mean over images of
1/2 sum (f - y)^2. The point is chosen on a split of the training set; the paper reports the best on the test set,
which is kept as a second figure, `best_on_test`.

Source: section 6, the setup; section 3.4 for kappa.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nas_cntk.architecture import Architecture
from nas_cntk.errors import StudyError
from nas_cntk.kernels.exact import kernel
from nas_cntk.validate.finite import FiniteNetwork, finite_network
from nas_cntk.validate.training import Schedule, TensorSet, evaluate, torch_threads, train

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


def schedule(n: int, epochs: int, learning_rate: float, seed: int) -> Schedule:
    """Return how a network is trained on n images, the split included."""
    return Schedule(
        loss="quadratic",
        epochs=epochs,
        batch=32 if n < MANY_IMAGES else 128,
        learning_rate=learning_rate,
        seed=seed,
    )


def shares(points: Sequence[Point]) -> Iterator[tuple[Point, tuple[float, float]]]:
    """Yield every point with the part of the whole time that it is, from and to: twice as wide takes four times it."""
    weights = [float(point.width) ** 2 for point in points]
    total, before = sum(weights), 0.0
    for point, weight in zip(points, weights, strict=True):
        yield point, (before / total, (before + weight) / total)
        before += weight


@dataclass(frozen=True, slots=True)
class Sets:
    """The images of a grid, on the device of the training."""

    train: TensorSet
    split: TensorSet  # chooses the point
    test: TensorSet


@dataclass(frozen=True, slots=True)
class Watch:
    """How a training is kept, shown and ended."""

    checkpoint: Path
    settings: str  # hash of everything that the training depends on
    progress: Callable[[float], None]
    cancelled: Callable[[], bool]


def train_point(
    architecture: Architecture,
    image_shape: Sequence[int],
    classes: int,
    point: Point,
    plan: Schedule,
    sets: Sets,
    watch: Watch,
) -> tuple[FiniteNetwork, dict[str, object]]:
    """Train the network of a point; returns it and what is to be recorded.

    Raises:
        torch.OutOfMemoryError: if the device is too small.
        RecordsError: if the checkpoint cannot be written.
        KeyboardInterrupt: if cancelled; the last checkpoint stays.
    """
    flops = architecture.count_flops(image_shape, classes, point.width)
    with torch_threads(flops * plan.batch):
        net = finite_network(architecture, image_shape, classes, point.width, point.kappa, seed=plan.seed)
        net.to(device=sets.train.x.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        found = train(
            net,
            sets.train,
            sets.split,
            plan,
            checkpoint=watch.checkpoint,
            settings=watch.settings,
            progress=watch.progress,
            cancelled=watch.cancelled,
        )
        accuracy = None if found.diverged else evaluate(net, sets.test, plan.loss)[1] / len(sets.test)
    return net, {
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


def ranking(result: Mapping[str, object]) -> tuple[float, float]:
    """Return what a trained point is chosen by: the greatest is the best."""
    return float(str(result["split_accuracy"])), -float(str(result["split_loss"]))


@dataclass(frozen=True, slots=True)
class Choice:
    """What a grid comes to."""

    chosen: Mapping[str, object] | None  # the point that the split chooses; None if every one diverged
    best_on_test: float | None
    diverged: int
    seconds: float

    @property
    def accuracy(self) -> float | None:
        """Of the chosen point, on the test images."""
        return None if self.chosen is None else float(str(self.chosen["test_accuracy"]))


def choose(results: Sequence[Mapping[str, object]]) -> Choice:
    """Return the choice among the recorded points of a grid."""
    right = [result for result in results if not result["diverged"]]
    return Choice(
        max(right, key=ranking) if right else None,
        max((float(str(result["test_accuracy"])) for result in right), default=None),
        len(results) - len(right),
        sum(float(str(result["seconds"])) for result in results),
    )
