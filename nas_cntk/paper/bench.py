"""What every experiment shares: where cells are kept, which images they read, and what they report."""

from __future__ import annotations

import base64
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nas_cntk import regression
from nas_cntk.kernels import cost
from nas_cntk.kernels.filling import Engine
from nas_cntk.paper.columns import Column, Size
from nas_cntk.paper.images import ImageSource
from nas_cntk.paper.wishes import Wishes
from nas_cntk.records import paper
from nas_cntk.records.database import Records, locate
from nas_cntk.validate.job import settings_hash

Progress = Callable[[float], None]  # fraction of the unit done

VERSION = 1  # of what cells mean; another one is computed again


@dataclass(frozen=True, slots=True)
class Asked:
    """A cell that is wanted."""

    experiment: str
    column: Column
    depth: int
    size: Size
    is_papers: bool  # the paper's data and sizes, so that its figure stands beside
    settings: Mapping[str, object]  # what the value depends on beyond the above

    @property
    def hash(self) -> str:
        """A hash of everything that the value depends on."""
        return settings_hash(
            {
                "version": VERSION,
                "experiment": self.experiment,
                "column": self.column.name,
                "depth": self.depth,
                "key": self.column.architecture(self.depth).key,
                "size": [self.size.side, self.size.train, self.size.test],
                **self.settings,
            }
        )


@dataclass(frozen=True, slots=True)
class Found:
    """What a cell came to."""

    accuracy: float | None
    seconds: float
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Forecast:
    """What cells are predicted to take."""

    seconds: float
    disk: float = 0.0  # bytes, at the same time
    impossible: str = ""  # why they cannot be computed here; empty: they can
    note: str = ""


class Unit(Protocol):
    """Cells that are computed together."""

    @property
    def name(self) -> str:
        """What the screen calls it."""

    @property
    def cells(self) -> tuple[Asked, ...]:
        """All its cells, recorded or not."""

    @property
    def trains(self) -> bool:
        """Whether it needs torch."""

    def forecast(self, missing: Sequence[Asked]) -> Forecast:
        """Predict what some of its cells take."""

    def run(self, missing: Sequence[Asked], progress: Progress) -> Iterator[tuple[Asked, Found]]:
        """Compute some of its cells, each handed over as soon as it is known."""


class Rate:
    """The rate of the kernel backend and of a matrix product, measured once, when first asked for."""

    def __init__(self, backend: str, gpus: tuple[int, ...] | None = None) -> None:
        self._backend, self._gpus = backend, gpus or ()
        self._rate = self._flops = 0.0

    @property
    def entry_layers(self) -> float:
        """Entry-layers per second."""
        self._rate = self._rate or cost.measure_rate(self._backend, devices=self._gpus)
        return self._rate

    @property
    def multiply_adds(self) -> float:
        """Multiply-adds per second of a solve in float32: about half those of a matrix product."""
        if not self._flops:
            a = np.ones((768, 768), dtype=np.float32)
            a @ a
            started = time.perf_counter()
            a @ a
            self._flops = 768**3 / (2 * (time.perf_counter() - started))
        return self._flops


@dataclass(frozen=True, slots=True)
class Bench:
    """What every experiment reads."""

    records: Records
    folder: Path  # of JSON, plots, tiles and checkpoints
    source: ImageSource
    wishes: Wishes
    backend: str  # of kernels, resolved
    rate: Rate
    cancelled: Callable[[], bool]
    engine: Engine | None = None  # that computes the tiles of kernels; this process if None
    gpus: tuple[int, ...] | None = None  # of kernels; None: the backend's own choice, or one that uses none

    def asked(
        self,
        experiment: str,
        column: Column,
        depth: int,
        settings: Mapping[str, object],
        classes: int | None = None,
    ) -> Asked:
        """Return a cell of a column; `settings` is what its value depends on beyond images and architecture."""
        size = self.source.size(column, self.wishes, classes)
        everything = {"data": self.source.raw.fingerprint, "classes": classes, **settings}
        return Asked(experiment, column, depth, size, self.source.is_papers and size == column.paper, everything)

    def part(self, cell: Asked, name: str, compute: Callable[[], dict[str, object]]) -> dict[str, object]:
        """Return a part of a cell (a draw, a seed, a grid point): recorded earlier, or computed and recorded now."""
        known = paper.find_part(self.records, cell.hash, name)
        if known is not None:
            return known
        self.poll()
        found = compute()
        paper.record_part(self.records, cell.hash, name, found)
        return found

    def parts_left(self, cell: Asked, names: Sequence[str]) -> int:
        """Return how many parts of a cell are not recorded."""
        return sum(paper.find_part(self.records, cell.hash, name) is None for name in names)

    def poll(self) -> None:
        """End the run if that was asked for.

        Raises:
            KeyboardInterrupt: then.
        """
        if self.cancelled():
            raise KeyboardInterrupt

    def free_disk(self) -> int:
        """Return the bytes that tiles may take."""
        folder = next(parent for parent in (self.folder, *self.folder.parents) if parent.is_dir())
        return shutil.disk_usage(folder).free


def paper_folder(db: str) -> Path:
    """Return the folder of JSON, plots, tiles and checkpoints: beside the database, and of its own."""
    path = locate(db).path
    return path.parent / f"{path.stem}-paper"


def cell_of(asked: Asked, found: Found) -> paper.PaperCell:
    """Return what is recorded of a cell."""
    error = None if found.accuracy is None else regression.standard_error(found.accuracy, asked.size.test)
    details = {"side": asked.size.side, "is_papers": asked.is_papers, **asked.settings, **found.details}
    return paper.PaperCell(
        settings=asked.hash,
        experiment=asked.experiment,
        column=asked.column.name,
        depth=asked.depth,
        accuracy=found.accuracy,
        stderr=error,
        train=asked.size.train,
        test=asked.size.test,
        seconds=found.seconds,
        details=details,
    )


def packed(correct: NDArray[np.bool_]) -> str:
    """Return which test images were classified rightly, as text: for paired errors."""
    return base64.b64encode(np.packbits(correct).tobytes()).decode("ascii")


def unpacked(text: str, images: int) -> NDArray[np.bool_]:
    """Return what `packed` wrote."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), dtype=np.uint8), count=images).astype(bool)
