"""What a search of some data would be: its split, and what it would cost at several image sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nas_cntk import data
from nas_cntk.data import Split
from nas_cntk.data.facts import Facts, facts
from nas_cntk.errors import DataError
from nas_cntk.kernels import cost
from nas_cntk.kernels.exact import resolve_backend
from nas_cntk.scoring import parse_scores
from nas_cntk.search.bench import Bench, Forecast, forecast
from nas_cntk.search.settings import DEFAULT_TRIAL_SECONDS, DEFAULT_TRIALS, Manner, Problem
from nas_cntk.search.spaces import Space, load_space

SIZES = (8, 12, 16, 24, 32)  # that a cost is told for, where images are as large


@dataclass(frozen=True, slots=True)
class Cost:
    """What a search is predicted to take at an image size."""

    image_size: int | None  # None: the images as they are
    forecast: Forecast


@dataclass(frozen=True, slots=True)
class Inspection:
    """Data looked over. `split` is None where none is possible, and `facts.problems` say why."""

    facts: Facts
    problem: Problem
    split: Split | None
    problems: tuple[str, ...]
    backend: str
    rate: float  # entry-layers/s
    costs: tuple[Cost, ...]  # the first is of the search as it was asked for

    def to_dict(self) -> dict[str, object]:
        """Return everything for JSON."""
        dataset, split = self.facts.dataset, self.split
        counts = self.counts()
        return {
            "data": dataset.spec,
            "image_shape": list(dataset.image_shape),
            "image_size": self.facts.image_size,
            "sizes": [{"height": h, "width": w, "images": n} for (h, w), n in self.facts.sizes],
            "train": len(dataset.y_train),
            "test": len(dataset.y_test),
            "test_given": self.facts.test_given,
            "classes": [dict(zip(("name", "train", "test", "subset", "holdout"), row, strict=True)) for row in counts],
            "left_out": [{"file": name, "reason": why} for name, why in self.facts.left_out],
            "problems": list(self.problems),
            "remarks": list(self.facts.remarks),
            "split": None
            if split is None
            else {"subset": len(split.y), "holdout": len(split.y_holdout), "rungs": list(split.rungs)},
            "cost": [
                {
                    "image_size": one.image_size,
                    "least_seconds": one.forecast.least,
                    "most_seconds": one.forecast.most,
                    "search_seconds": one.forecast.total(DEFAULT_TRIALS),
                    "skipped": one.forecast.dear / one.forecast.proposals,
                }
                for one in self.costs
            ],
            "backend": self.backend,
            "entry_layers_per_second": self.rate,
        }

    def counts(self) -> list[tuple[str, int, int, int | None, int | None]]:
        """Return for each class its name, and its training, test, subset and held-out images."""
        dataset, split = self.facts.dataset, self.split
        found: list[tuple[str, int, int, int | None, int | None]] = []
        for label, name in enumerate(dataset.classes):
            drawn: tuple[int | None, int | None] = (None, None)
            if split is not None:
                drawn = int((split.y == label).sum()), int((split.y_holdout == label).sum())
            found.append((name, int((dataset.y_train == label).sum()), int((dataset.y_test == label).sum()), *drawn))
        return found


def inspect(problem: Problem, backend: str = "auto") -> Inspection:
    """Look over the data of a problem, draw its split, and predict what a search would take. Nothing is recorded.

    Raises:
        DataError: if nothing can be read.
        SpaceError: if the space cannot propose.
    """
    space = load_space(problem.space)
    resolved = resolve_backend(backend)
    seen = facts(problem.data, problem.image_size)
    problems = list(seen.problems)
    try:
        split = data.split(data.standardise(seen.dataset), problem.subset, problem.holdout, problem.seed)
    except DataError as error:
        problems.append(str(error))
        return Inspection(seen, problem, None, tuple(problems), resolved, 0.0, ())
    rate = cost.measure_rate(resolved)
    bench = Bench(problem, seen.dataset, split, parse_scores(problem.score), resolved)
    h, w, _ = seen.dataset.image_shape
    costs = [Cost(seen.image_size, _cost(bench, space, rate, (h, w)))]
    stored = max(min(h, w), min(min(size) for size, _ in seen.sizes))
    costs += [Cost(n, _cost(bench, space, rate, (n, n))) for n in SIZES if n <= stored and (n, n) != (h, w)]
    return Inspection(seen, problem, split, tuple(problems), resolved, rate, tuple(costs))


def _cost(bench: Bench, space: Space, rate: float, size: tuple[int, int]) -> Forecast:
    # A forecast looks at the images' shape alone.
    blank = np.empty((0, *size, bench.dataset.image_shape[2]), dtype=np.float32)
    sized = replace(bench, dataset=replace(bench.dataset, x_train=blank))
    return forecast(sized.evaluation(space, rate, Manner()), bench.problem.seed, DEFAULT_TRIAL_SECONDS, DEFAULT_TRIALS)
