"""Theorem 3.2: a wide net trained to near zero loss predicts what kernel regression with the exact ntk predicts.

A fully connected net with one output kappa f is trained by full-batch gradient descent on 1/2 sum (f - y)^2, with
labels -1 and 1 of two classes, at the step 1 / (kappa^2 lambda_max(K)), until no training image is off by more than
`TOLERANCE`. The distance is the root mean square over test images of f_nn(x) - f_ntk(x), equation 5.

Source: section 3.2, theorem 3.2.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas_cntk.kernels.exact import kernel
from nas_cntk.paper import columns
from nas_cntk.paper.bench import Asked, Bench, Forecast, Found, Progress, Unit
from nas_cntk.paper.draws import mean, network, number, tensor
from nas_cntk.paper.theorem1 import images

NAME = "theorem2"
CLASSES = 2
DEPTHS = (3,)
WIDTHS, FULL_WIDTHS = (64, 256, 1024), (64, 256, 1024, 4096)
KAPPAS = (1.0, 0.3, 0.1)
SEEDS, FULL_SEEDS = 8, 20
TOLERANCE = 1e-3  # of the training residuals, labels being 1
MOST_STEPS = 20_000
CHECKED_EVERY = 20  # steps

Float = NDArray[np.float64]


def units(bench: Bench) -> list[Unit]:
    """Return one unit a depth and kappa."""
    wishes, (column,) = bench.wishes, columns.THEOREM_2
    seeds = wishes.seeds or (FULL_SEEDS if wishes.full else SEEDS)
    found: list[Unit] = []
    for depth in wishes.depths or DEPTHS:
        for kappa in wishes.kappas or KAPPAS:
            settings = {"seeds": seeds, "seed": wishes.seed, "kappa": kappa}
            widths = wishes.widths or (FULL_WIDTHS if wishes.full else WIDTHS)
            cells = tuple(bench.asked(NAME, column, depth, {**settings, "width": width}, CLASSES) for width in widths)
            found.append(TrainingUnit(bench, f"{column.name} kappa {kappa:g}", cells))
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """What nets are trained on, and what they should predict."""

    x: NDArray[np.float32]  # shape: (n, h, w, c)
    x_test: NDArray[np.float32]  # shape: (m, h, w, c)
    y: Float  # shape: (n,), -1 or 1
    predicted: Float  # shape: (m,), by kernel regression
    largest_eigenvalue: float
    least_eigenvalue: float


@dataclass(frozen=True, slots=True)
class TrainingUnit:
    """One curve: the distances of a kappa over the width."""

    bench: Bench
    name: str
    cells: tuple[Asked, ...]

    @property
    def trains(self) -> bool:
        """Networks are trained."""
        return True

    def forecast(self, missing: Sequence[Asked]) -> Forecast:
        """Predict the steps by the kernel's eigenvalues, and time some of them."""
        problem = self._problem(missing[0])
        # The slowest direction shrinks by 1 - least / largest a step, from about 1 to the tolerance.
        steps = min(MOST_STEPS, np.log(1 / TOLERANCE) * problem.largest_eigenvalue / problem.least_eigenvalue)
        seconds = 0.0
        for cell in missing:
            started = time.perf_counter()
            descend(self.bench, cell, 0, problem, most_steps=CHECKED_EVERY)
            one = (time.perf_counter() - started) / CHECKED_EVERY
            seconds += self.bench.parts_left(cell, _names(cell)) * steps * one
        return Forecast(seconds)

    def run(self, missing: Sequence[Asked], progress: Progress) -> Iterator[tuple[Asked, Found]]:
        """Train nets and measure; each is recorded.

        Raises:
            KeyboardInterrupt: if cancelled; finished nets stay.
        """
        problem = self._problem(missing[0])
        weights = [number(cell, "width") for cell in missing]
        for position, cell in enumerate(missing):
            began, share = sum(weights[:position]) / sum(weights), weights[position] / sum(weights)
            names, results = _names(cell), []
            for draw, name in enumerate(names):

                def trained(cell: Asked = cell, draw: int = draw) -> dict[str, object]:
                    return descend(self.bench, cell, draw, problem)

                results.append(self.bench.part(cell, name, trained))
                progress(began + share * (draw + 1) / len(names))
            yield cell, _mean(results)

    def _problem(self, cell: Asked) -> Problem:
        sample = self.bench.source.sample(cell.size, CLASSES)
        x, x_test = (images(self.bench, cell.column, part) for part in (sample.x, sample.x_test))
        y = np.where(sample.y == 1, 1.0, -1.0)
        arch = cell.column.architecture(cell.depth)
        backend, gpus = self.bench.backend, self.bench.gpus
        gram = np.asarray(kernel(arch, x, backend=backend, devices=gpus, dtype="float64"))
        cross = np.asarray(kernel(arch, x_test, x, backend=backend, devices=gpus, dtype="float64"))
        values = np.linalg.eigvalsh(gram)
        return Problem(x, x_test, y, cross @ np.linalg.solve(gram, y), float(values[-1]), float(values[0]))


def descend(
    bench: Bench, cell: Asked, draw: int, problem: Problem, *, most_steps: int = MOST_STEPS
) -> dict[str, object]:
    """Train one net by full-batch gradient descent, and return its distance from the kernel regression."""
    import torch

    from nas_cntk.validate.training import torch_threads

    started = time.monotonic()
    kappa, width = number(cell, "kappa"), int(number(cell, "width"))
    x, x_test = tensor(bench, problem.x), tensor(bench, problem.x_test)
    y = torch.from_numpy(problem.y).float().to(x.device)
    net = network(cell, problem.x.shape[1:], width, draw, kappa).to(x.device)
    weights = [weight for weight in net.parameters() if weight.requires_grad]
    rate = 1 / (kappa**2 * problem.largest_eigenvalue)
    flops = cell.column.architecture(cell.depth).count_flops(problem.x.shape[1:], 1, width)
    with torch_threads(len(x) * flops):
        residual, step = float("inf"), 0
        while step < most_steps:
            off = net(x)[:, 0] - y
            if step % CHECKED_EVERY == 0:
                bench.poll()
                residual = float(off.detach().abs().max())
                if residual <= TOLERANCE or not residual < 1e4:
                    break
            gradients = torch.autograd.grad(off.square().sum() / 2, weights)
            with torch.no_grad():
                for weight, gradient in zip(weights, gradients, strict=True):
                    weight.sub_(gradient, alpha=rate)
            step += 1
        with torch.no_grad():
            distance = net(x_test)[:, 0].cpu().double().numpy() - problem.predicted
    return {
        "distance": float(np.sqrt(np.mean(distance**2))) if residual < 1e4 else None,
        "residual": residual if residual < 1e4 else None,
        "steps": step,
        "seconds": time.monotonic() - started,
    }


def _mean(results: Sequence[dict[str, object]]) -> Found:
    seconds = sum(float(str(result["seconds"])) for result in results)
    distances = [float(str(result["distance"])) for result in results if result["distance"] is not None]
    if len(distances) < len(results):
        return Found(None, seconds, {"diverged": True, "nets_diverged": len(results) - len(distances)})
    value, error = mean(distances)
    steps = [result["steps"] for result in results]
    residual = max(float(str(result["residual"])) for result in results)
    details = {"distance": value, "distance_error": error, "distances": distances, "steps": steps, "residual": residual}
    return Found(None, seconds, details)


def _names(cell: Asked) -> list[str]:
    return [f"net {draw}" for draw in range(int(number(cell, "seeds")))]
