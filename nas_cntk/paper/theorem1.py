"""Theorem 3.1: the tangent kernel of a random net approaches the exact one as the net grows wide.

Distances are |K_empirical - K| / |K| in the Frobenius norm, between a few images, in the mean over several
nets; they should fall like width^(-1/2).

Source: section 3.2, theorem 3.1; appendix B.
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
from nas_cntk.paper.columns import Column
from nas_cntk.paper.draws import mean, network, number, tensor
from nas_cntk.paper.wishes import chosen_columns

NAME = "theorem1"
COLUMNS = tuple(column.name for column in columns.THEOREM_1)
DEPTHS = (3,)
SEEDS, FULL_SEEDS = {"FC": 40, "V": 80, "GAP": 160}, 200
WIDTHS = {"FC": (32, 64, 128, 256, 512, 1024), "V": (32, 64, 128, 256), "GAP": (32, 64, 128, 256)}
FULL_WIDTHS = {"FC": (32, 64, 128, 256, 512, 1024, 2048, 4096), "V": (32, 64, 128, 256, 512, 1024),
               "GAP": (32, 64, 128, 256, 512, 1024)}  # fmt: skip
MULTIPLY_ADDS = 1.5e10  # a second, of gradients on a small machine: for the prediction alone


def units(bench: Bench) -> list[Unit]:
    """Return one unit a column and depth."""
    wishes = bench.wishes
    wanted = chosen_columns(wishes.columns, COLUMNS)
    found: list[Unit] = []
    for column in columns.THEOREM_1:
        widths = wishes.widths or (FULL_WIDTHS if wishes.full else WIDTHS)[column.head]
        seeds = wishes.seeds or (FULL_SEEDS if wishes.full else SEEDS[column.head])
        for depth in wishes.depths or DEPTHS:
            settings = {"seeds": seeds, "seed": wishes.seed}
            cells = tuple(bench.asked(NAME, column, depth, {**settings, "width": width}) for width in widths)
            if column.name in wanted:
                found.append(DistanceUnit(bench, column.name, cells))
    return found


def images(bench: Bench, column: Column, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the images as a net reads them: for a fully connected one vectors of norm 1, as 1x1 images.

    The theorem asks for norms of at most 1. The first layer divides by the number of inputs, hence the root.
    """
    if column.head != "FC":
        return x
    flat = x.reshape(len(x), 1, 1, -1)
    norms = np.linalg.norm(flat, axis=3, keepdims=True)
    return np.asarray(flat / np.where(norms, norms, 1) * np.sqrt(flat.shape[3]), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class DistanceUnit:
    """One curve: the distances of a depth over the width."""

    bench: Bench
    name: str
    cells: tuple[Asked, ...]

    @property
    def trains(self) -> bool:
        """Gradients are taken, if no more."""
        return True

    def forecast(self, missing: Sequence[Asked]) -> Forecast:
        """Predict the gradients of all nets, by their multiply-adds."""
        work = 0.0
        for cell in missing:
            arch, width = cell.column.architecture(cell.depth), int(number(cell, "width"))
            shape = self.bench.source.shape(cell.size)
            shape = (1, 1, int(np.prod(shape))) if cell.column.head == "FC" else shape
            layers = len(arch.weights(shape, 1, width))
            left = self.bench.parts_left(cell, _names(cell))
            # A pass forward, one back, and the gradients; and some milliseconds a layer whatever its size.
            one = cell.size.train * 3 * arch.count_flops(shape, 1, width) / MULTIPLY_ADDS
            work += left * (one + 0.004 * layers)
        return Forecast(work)

    def run(self, missing: Sequence[Asked], progress: Progress) -> Iterator[tuple[Asked, Found]]:
        """Draw nets and measure; each is recorded.

        Raises:
            KeyboardInterrupt: if cancelled; finished nets stay.
        """
        first = missing[0]
        x = images(self.bench, first.column, self.bench.source.sample(first.size).x)
        arch = first.column.architecture(first.depth)
        exact = kernel(arch, x, backend=self.bench.backend, devices=self.bench.gpus, dtype="float64").astype(np.float64)
        weights = [number(cell, "width") ** 2 for cell in missing]
        for position, cell in enumerate(missing):
            began, share = sum(weights[:position]) / sum(weights), weights[position] / sum(weights)
            started, names, results = time.monotonic(), _names(cell), []
            for draw, name in enumerate(names):

                def measured(cell: Asked = cell, draw: int = draw) -> dict[str, object]:
                    return self._measured(cell, draw, x, exact)

                results.append(self.bench.part(cell, name, measured))
                progress(began + share * (draw + 1) / len(names))
            distances = [float(str(result["distance"])) for result in results]
            value, error = mean(distances)
            details = {"distance": value, "distance_error": error, "distances": distances}
            yield cell, Found(None, time.monotonic() - started, details)

    def _measured(
        self, cell: Asked, draw: int, x: NDArray[np.float32], exact: NDArray[np.float64]
    ) -> dict[str, object]:
        from nas_cntk.paper.random_features import empirical_gram
        from nas_cntk.validate.training import torch_threads

        inputs = tensor(self.bench, x)
        width = int(number(cell, "width"))
        flops = cell.column.architecture(cell.depth).count_flops(x.shape[1:], 1, width)
        with torch_threads(len(x) * flops):
            net = network(cell, x.shape[1:], width, draw).to(inputs.device)
            found = empirical_gram(net, inputs, tick=lambda _: self.bench.poll())
        return {"distance": float(np.linalg.norm(found - exact) / np.linalg.norm(exact))}


def _names(cell: Asked) -> list[str]:
    return [f"net {draw}" for draw in range(int(number(cell, "seeds")))]
