"""Table 2: exact kernels against random features, two classes.

Source: section 5.2.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nas_cntk import regression
from nas_cntk.paper import columns, figures
from nas_cntk.paper.bench import Asked, Bench, Forecast, Found, Progress, Unit, packed
from nas_cntk.paper.draws import network, number, tensor
from nas_cntk.paper.images import Sample
from nas_cntk.paper.kernel_column import DTYPE, KernelUnit
from nas_cntk.paper.wishes import chosen_columns

NAME = "table2"
COLUMNS = tuple(column.name for column in columns.TABLE_2)
CLASSES = 2
SMALL_DEPTHS = (3, 4, 6)


def units(bench: Bench) -> list[Unit]:
    """Return one unit a column."""
    wishes = bench.wishes
    depths = wishes.depths or (figures.DEPTHS if wishes.full else SMALL_DEPTHS)
    wanted = chosen_columns(wishes.columns, COLUMNS)
    settings = {
        "draws": wishes.draws or figures.DRAWS,
        "channels": wishes.channels or figures.CHANNELS,
        "seed": wishes.seed,
    }
    found: list[Unit] = []
    for column in columns.TABLE_2:
        if column.name not in wanted:
            continue
        if column.kind == "features":
            cells = tuple(bench.asked(NAME, column, depth, settings, CLASSES) for depth in depths)
            found.append(FeaturesUnit(bench, column.name, cells))
        else:
            cells = tuple(bench.asked(NAME, column, depth, {"dtype": DTYPE}, CLASSES) for depth in depths)
            found.append(KernelUnit(bench, column.name, cells, CLASSES))
    return found


@dataclass(frozen=True, slots=True)
class FeaturesUnit:
    """A column of random features: the median accuracy of several draws."""

    bench: Bench
    name: str
    cells: tuple[Asked, ...]

    @property
    def trains(self) -> bool:
        """Gradients are taken, if no more."""
        return True

    def forecast(self, missing: Sequence[Asked]) -> Forecast:
        """Predict the gradients, and the products that make the Gram matrix of them."""
        from nas_cntk.paper.random_features import seconds_an_image, work

        sample = self.bench.source.sample(missing[0].size, CLASSES)
        x = tensor(self.bench, np.concatenate([sample.x[:8], sample.x_test[:8]]))
        images = missing[0].size.train + missing[0].size.test
        seconds = 0.0
        for cell in missing:
            net = network(cell, self.bench.source.shape(cell.size), int(number(cell, "channels")), 0).to(x.device)
            needed = work(net, x, images)
            a_pass, a_gradient = seconds_an_image(net, x)
            products = needed.multiply_adds / self.bench.rate.multiply_adds
            left = self.bench.parts_left(cell, _names(cell))
            seconds += left * (needed.images * a_pass + needed.gradients * a_gradient + products)
        return Forecast(seconds)

    def run(self, missing: Sequence[Asked], progress: Progress) -> Iterator[tuple[Asked, Found]]:
        """Draw, solve, test; each draw is recorded.

        Raises:
            KeyboardInterrupt: if cancelled; finished draws stay.
        """
        sample = self.bench.source.sample(missing[0].size, CLASSES)
        depths = [float(cell.depth) for cell in missing]
        for position, cell in enumerate(missing):
            began, share = sum(depths[:position]) / sum(depths), cell.depth / sum(depths)
            names = _names(cell)
            results = []
            for draw, name in enumerate(names):
                first, part = began + share * draw / len(names), share / len(names)

                def drawn(
                    cell: Asked = cell, draw: int = draw, first: float = first, part: float = part
                ) -> dict[str, object]:
                    return self._drawn(cell, draw, sample, lambda fraction: progress(first + fraction * part))

                results.append(self.bench.part(cell, name, drawn))
            yield cell, _median(results)

    def _drawn(self, cell: Asked, draw: int, sample: Sample, progress: Progress) -> dict[str, object]:
        from nas_cntk.paper.random_features import empirical_gram

        def tick(fraction: float) -> None:
            self.bench.poll()
            progress(fraction)

        started = time.monotonic()
        x = tensor(self.bench, np.concatenate([sample.x, sample.x_test]))
        net = network(cell, self.bench.source.shape(cell.size), int(number(cell, "channels")), draw).to(x.device)
        gram = empirical_gram(net, x, tick=tick).astype(np.float32)
        n = len(sample.y)
        fitted = regression.fit(gram[:n, :n], sample.y, sample.num_classes)
        scores = regression.holdout_scores(fitted, gram[n:, :n], sample.y_test)
        return {
            "accuracy": scores.accuracy,
            "correct": packed(scores.correct),
            "jitter": fitted.jitter,
            "seconds": time.monotonic() - started,
        }


def _names(cell: Asked) -> list[str]:
    return [f"draw {draw}" for draw in range(int(number(cell, "draws")))]


def _median(results: Sequence[dict[str, object]]) -> Found:
    """Return the median of draws, with the answers of the draw, or the two, that it is made of."""
    ordered = sorted(results, key=lambda result: float(str(result["accuracy"])))
    middle = ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]
    accuracies = [float(str(result["accuracy"])) for result in results]
    return Found(
        float(np.median(accuracies)),
        sum(float(str(result["seconds"])) for result in results),
        {
            "accuracies": accuracies,
            "jitters": [result["jitter"] for result in results],
            "middle": [result["correct"] for result in middle],
        },
    )
