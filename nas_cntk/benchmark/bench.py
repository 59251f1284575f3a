"""What a benchmark measures its cells with: images, settings, and the parts that scores are computed in."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nas_cntk import nasbench201
from nas_cntk.benchmark.table import DEAD_KEY, Cell
from nas_cntk.benchmark.wishes import Wishes
from nas_cntk.records.benchmark import Measurement
from nas_cntk.scores import PREFIX, SCORES
from nas_cntk.scoring import network_names, score_architecture
from nas_cntk.validate.job import settings_hash

if TYPE_CHECKING:
    from nas_cntk.data import Dataset, Split

NAME = "nasbench201"
VERSION = 1  # of what measurements mean; those of another are computed again
KERNELS = "kernels"  # the part in which all scores of both kernels come from one pass
TRAINING = "short_training"

Progress = Callable[[float], None]
Cancelled = Callable[[], bool]

KERNEL_SCORES = tuple(name for name, kind in SCORES.items() if kind.kernels and not kind.needs_network)


@dataclass
class Images:
    """The data, shrunk for kernels and as they are for finite networks; each is read when first asked for."""

    wishes: Wishes
    _loaded: dict[int | None, tuple[Dataset, Split]] = field(default_factory=dict)

    def of(self, image_size: int | None) -> tuple[Dataset, Split]:
        """Return the standardised data at a size (None: their own), and its subset and held-out images.

        Raises:
            DataError: if they cannot be read, or are smaller.
        """
        from nas_cntk import data

        if image_size not in self._loaded:
            wishes = self.wishes
            dataset = data.standardise(data.load(wishes.data, image_size=image_size, download=wishes.download))
            self._loaded[image_size] = dataset, data.split(dataset, wishes.subset, wishes.holdout, wishes.seed)
        return self._loaded[image_size]


@dataclass(frozen=True)
class Bench:
    """A benchmark's images and backend."""

    wishes: Wishes
    images: Images
    backend: str  # resolved

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that the wanted scores are computed in: the kernels together, every finite score alone."""
        names = self.wishes.scores
        kernels = (KERNELS,) if any(SCORES[name].kernels for name in names) else ()
        networks = network_names(names)
        return (*kernels, *(n for n in networks if n != TRAINING), *(n for n in networks if n == TRAINING))

    def key(self, cell: Cell) -> str:
        """Return what equal cells share: the canonical key; one for all dead ones."""
        return nasbench201.architecture(cell.text, self.wishes.cells_per_stage).key if cell.live else DEAD_KEY

    def settings(self, key: str, part: str) -> str:
        """Return a hash of everything that a part of a cell depends on."""
        wishes = self.wishes
        size = wishes.image_size if part == KERNELS else None
        dataset, split = self.images.of(size)
        return settings_hash(
            {
                "version": VERSION,
                "benchmark": NAME,
                "part": part,
                "key": key,
                "data": dataset.fingerprint,
                "sizes": [len(split.x), len(split.x_holdout)],
                "seed": wishes.seed,
                "cells_per_stage": wishes.cells_per_stage,
            }
        )

    def measure(self, cell: Cell, part: str, progress: Progress, cancelled: Cancelled) -> Measurement:
        """Compute a part of a live cell.

        Raises:
            KeyboardInterrupt: if cancelled.
        """
        wishes = self.wishes
        if part != KERNELS:
            from nas_cntk.nasbench201.network import network
            from nas_cntk.scores.networks import network_scores

            dataset, split = self.images.of(None)
            found = network_scores(
                lambda: network(cell.text, dataset.num_classes, dataset.image_shape[2]),
                (part,),
                (split.x, split.y),
                (split.x_holdout, split.y_holdout),
                seed=wishes.seed,
                progress=progress,
                cancelled=cancelled,
            )[part]
            return Measurement({part: found.value}, found.seconds)
        dataset, split = self.images.of(wishes.image_size)
        scores = score_architecture(
            nasbench201.architecture(cell.text, wishes.cells_per_stage),
            split.x,
            split.y,
            split.x_holdout,
            split.y_holdout,
            score=tuple(prefix + "holdout_accuracy" for prefix in PREFIX.values()),
            backend=self.backend,
            num_classes=dataset.num_classes,
            progress=progress,
            cancelled=cancelled,
        )
        return Measurement({name: scores.values[name] for name in KERNEL_SCORES}, scores.seconds)

    def of_dead(self, part: str) -> Measurement:
        """Return what a dead cell's part is known to be: it guesses, and everything else is undefined."""
        if part != KERNELS:
            return Measurement({part: math.nan}, 0.0)
        guess = 1 / self.images.of(self.wishes.image_size)[0].num_classes
        values = {name: guess if name.endswith("accuracy") else math.nan for name in KERNEL_SCORES}
        return Measurement(values, 0.0)

    def kernel_seconds(self, cells: Sequence[Cell], rate: float) -> float:
        """Return the predicted seconds of the kernels of one of some live cells, on average."""
        from nas_cntk.kernels import cost

        dataset, split = self.images.of(self.wishes.image_size)
        n = len(split.x)
        pairs = n * (n + 1) // 2 + n * len(split.x_holdout)
        graphs = [nasbench201.architecture(cell.text, self.wishes.cells_per_stage) for cell in cells]
        work = sum(float(cost.entry_layers(graph, dataset.image_shape, pairs)) for graph in graphs)
        return work / rate / max(1, len(cells))
