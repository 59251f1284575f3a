"""The CNNs of one column: the paper's recipe, a grid of learning rate, width and kappa for each depth.

The grid, the loss and the training are those of `validate --recipe paper`. The paper reports "the best performance
among all hyperparameters", that is on the test images; here a part of the training images chooses, and the best on
the test images is kept beside it, as `best_on_test`.

Source: section 5.1, the setup; section 3.4 for kappa.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nas_cntk.errors import BackendUnavailable, UsageError
from nas_cntk.paper.bench import Asked, Bench, Forecast, Found, Progress
from nas_cntk.paper.wishes import Wishes
from nas_cntk.records import paper
from nas_cntk.validate.devices import resolve_devices
from nas_cntk.validate.images import SPLIT_FRACTION, chooser
from nas_cntk.validate.job import settings_hash

if TYPE_CHECKING:
    from nas_cntk.validate.paper_grid import Point, Sets
    from nas_cntk.validate.training import Schedule

EPOCHS, WIDTH = 5, 32  # of a small run
FULL_EPOCHS, FULL_WIDTH = 100, 128


def training_settings(wishes: Wishes) -> Mapping[str, object]:
    """Return what the accuracy of a CNN depends on beyond its images."""
    return {
        "epochs": wishes.epochs or (FULL_EPOCHS if wishes.full else EPOCHS),
        "width": wishes.width or (FULL_WIDTH if wishes.full else WIDTH),
        "seed": wishes.seed,
    }


@dataclass(frozen=True, slots=True)
class CnnUnit:
    """The CNNs of a column."""

    bench: Bench
    name: str
    cells: tuple[Asked, ...]

    @property
    def trains(self) -> bool:
        """Networks are trained."""
        return True

    def forecast(self, missing: Sequence[Asked]) -> Forecast:
        """Predict the trainings from timed steps of the shallowest and the deepest."""
        from nas_cntk.validate import paper_grid

        ends = {cell.depth: cell for cell in (missing[0], missing[-1])}
        times = {depth: self._seconds(cell) for depth, cell in ends.items()}
        first, last = missing[0].depth, missing[-1].depth
        slope = (times[last] - times[first]) / max(1, last - first)
        seconds = 0.0
        points = len(paper_grid.KAPPAS) * len(paper_grid.STEPS) * len(paper_grid.widths(_width(missing[0])))
        for cell in missing:
            left = max(0, points - paper.count_parts(self.bench.records, cell.hash))
            seconds += (times[first] + slope * (cell.depth - first)) * left / points
        return Forecast(seconds)

    def run(self, missing: Sequence[Asked], progress: Progress) -> Iterator[tuple[Asked, Found]]:
        """Train the grids, the shallow ones first.

        Raises:
            StudyError: if the kernel gives no learning rate.
            KeyboardInterrupt: if cancelled; finished points and the last checkpoint stay.
        """
        depths = [float(cell.depth) for cell in missing]
        for number, cell in enumerate(missing):
            began, share = sum(depths[:number]) / sum(depths), cell.depth / sum(depths)

            def of_cell(fraction: float, began: float = began, share: float = share) -> None:
                progress(began + fraction * share)

            yield cell, self._grid(cell, of_cell)

    def _grid(self, cell: Asked, progress: Progress) -> Found:
        from nas_cntk.validate import paper_grid
        from nas_cntk.validate.training import tensors

        started, bench = time.monotonic(), self.bench
        device = resolve_devices(bench.wishes.devices).train
        sample = bench.source.sample(cell.size)
        aside = chooser(sample.y)
        sets = paper_grid.Sets(
            tensors(sample.x[~aside], sample.y[~aside], device),
            tensors(sample.x[aside], sample.y[aside], device),
            tensors(sample.x_test, sample.y_test, device),
        )
        leading = sample.x[: paper_grid.EIGENVALUE_IMAGES]
        architecture = cell.column.architecture(cell.depth)
        eigenvalue = paper_grid.relative_eigenvalue(architecture, leading, bench.backend)
        results: list[dict[str, object]] = []
        for point, (began, ended) in paper_grid.shares(paper_grid.grid(_width(cell), eigenvalue)):

            def of_point(fraction: float, began: float = began, ended: float = ended) -> None:
                progress(began + fraction * (ended - began))

            def trained(point: Point = point, show: Progress = of_point) -> dict[str, object]:
                return self._trained(cell, point, sets, show)

            results.append(bench.part(cell, _part(point), trained))
            of_point(1.0)
        self._checkpoint(cell).unlink(missing_ok=True)
        choice = paper_grid.choose(results)
        return Found(
            choice.accuracy,
            max(time.monotonic() - started, choice.seconds),
            {
                "chosen": choice.chosen,
                "best_on_test": choice.best_on_test,
                "diverged": choice.chosen is None,
                "points": len(results),
                "points_diverged": choice.diverged,
                "device": str(device),
            },
        )

    def _trained(self, cell: Asked, point: Point, sets: Sets, progress: Progress) -> dict[str, object]:
        import torch

        from nas_cntk.validate.paper_grid import Watch, train_point

        shape, classes = self.bench.source.shape(cell.size), self.bench.source.raw.num_classes
        plan = _schedule(cell, point.learning_rate, len(sets.train) + len(sets.split))
        settings = settings_hash({"cell": cell.hash, "point": _part(point)})
        watch = Watch(self._checkpoint(cell), settings, progress, self.bench.cancelled)
        try:
            _, result = train_point(cell.column.architecture(cell.depth), shape, classes, point, plan, sets, watch)
        except torch.OutOfMemoryError:
            raise BackendUnavailable(
                f"{cell.column.name} of depth {cell.depth} needs more memory than {sets.train.x.device} has;"
                " lower --width, or use another of --devices"
            ) from None
        return result

    def _seconds(self, cell: Asked) -> float:
        """Return what the whole grid of a cell is predicted to take."""
        import torch

        from nas_cntk.validate import paper_grid
        from nas_cntk.validate.finite import finite_network
        from nas_cntk.validate.training import tensors, time_step, torch_threads

        device = resolve_devices(self.bench.wishes.devices).train
        sample = self.bench.source.sample(cell.size)
        shape, n, m = sample.x.shape[1:], cell.size.train, cell.size.test
        plan = _schedule(cell, 1.0, n)
        data = tensors(sample.x[: 4 * plan.batch], sample.y[: 4 * plan.batch], device)
        architecture = cell.column.architecture(cell.depth)
        total = 0.0
        for width in paper_grid.widths(_width(cell)):
            flops = architecture.count_flops(shape, sample.num_classes, width)
            with torch_threads(flops * plan.batch):
                net = finite_network(architecture, shape, sample.num_classes, width, seed=0)
                net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
                step = time_step(net, data, plan, seconds=0.2)
            steps = math.ceil((1 - SPLIT_FRACTION) * n / plan.batch)
            seen = plan.epochs * SPLIT_FRACTION * n + m
            one = plan.epochs * steps * step + seen * step / plan.batch / 3  # a forward pass is a third of a step
            total += len(paper_grid.KAPPAS) * len(paper_grid.STEPS) * one
        return total

    def _checkpoint(self, cell: Asked) -> Path:
        return self.bench.folder / f"{cell.hash}.checkpoint"


def check(wishes: Wishes) -> None:
    """Refuse what the CNN columns have no use for.

    Raises:
        UsageError: naming the option.
    """
    if wishes.width is not None and wishes.width < 2:
        raise UsageError(f"--width {wishes.width}: the grid takes half of it too; give 2 or more")


def _width(cell: Asked) -> int:
    return int(str(cell.settings["width"]))


def _part(point: Point) -> str:
    return f"step {point.step:g} width {point.width} kappa {point.kappa:g}"


def _schedule(cell: Asked, learning_rate: float, n: int) -> Schedule:
    from nas_cntk.validate.paper_grid import schedule

    return schedule(n, int(str(cell.settings["epochs"])), learning_rate, int(str(cell.settings["seed"])))
