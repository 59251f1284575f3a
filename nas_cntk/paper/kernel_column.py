"""Exact kernels of one column: all its depths in one pass, tiles on disk until each depth is solved.

    <folder>/tiles/<hash>/            a Gram store (see `kernels.store`), of one pass
    <folder>/tiles/<hash>.complete    all tiles are there: what remains is to solve

A kill costs a tile. When a depth is solved and recorded, its tiles are deleted; when all are, the folder is.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nas_cntk.errors import KernelError
from nas_cntk.files import write_file
from nas_cntk.kernels import cost
from nas_cntk.kernels.budget import available_memory
from nas_cntk.kernels.exact import Kind
from nas_cntk.kernels.gram import Cross, Gram, gpus_of, gram_family
from nas_cntk.kernels.store import Store, disk_errors
from nas_cntk.kernels.tiles import Place
from nas_cntk.paper.bench import Asked, Bench, Forecast, Found, Progress, packed
from nas_cntk.paper.images import Sample
from nas_cntk.solver import solve
from nas_cntk.validate.job import settings_hash

DTYPE = "float32"
SOLVE_SHARE = 0.05  # of the progress
OF_FREE = 0.9  # of the free disk that tiles may take
PRODUCTS = 400  # of the matrix with the targets, that a solve takes beside its factor


@dataclass(frozen=True, slots=True)
class KernelUnit:
    """The cells of one column, or of a nngp and a ntk column that come from one pass."""

    bench: Bench
    name: str
    cells: tuple[Asked, ...]
    classes: int | None = None  # the first classes of the data alone

    @property
    def trains(self) -> bool:
        """No network is trained."""
        return False

    def forecast(self, missing: Sequence[Asked]) -> Forecast:
        """Predict seconds and disk; where all depths do not fit the disk at once they go one after the other."""
        size = missing[0].size
        n, m = size.train, size.test
        image_shape = self.bench.source.shape(size)
        disk = _bytes(missing)
        free = OF_FREE * self.bench.free_disk()
        groups = [_depths(missing)] if disk <= free else [[depth] for depth in _depths(missing)]
        pairs = n * (n + 1) // 2 + n * m
        work = 0.0
        for group in groups:
            work += cost.entry_layers([missing[0].column.architecture(depth) for depth in group], image_shape, pairs)
        seconds = work / self.bench.rate.entry_layers
        seconds += len(missing) * (n**3 / 3 + PRODUCTS * n**2) / self.bench.rate.multiply_adds
        impossible, note = "", ""
        if len(groups) > 1:
            disk /= len(groups)
            note = "the disk has no room for all depths at once: one after the other"
            if disk > free:
                impossible = f"its tiles need {disk / 1e9:.1f} GB of disk, and {free / 1e9:.1f} GB are free"
        if 4 * n * n > available_memory():
            tiled = "no memory holds the matrix: it is solved on its tiles, which takes longer"
            note = f"{note}; {tiled}" if note else tiled
        return Forecast(seconds, disk, impossible, note)

    def run(self, missing: Sequence[Asked], progress: Progress) -> Iterator[tuple[Asked, Found]]:
        """Compute the kernels in one pass, then solve them one after the other.

        Raises:
            KernelError: if the disk is full or another process computes there; finished tiles stay.
        """
        sample = self.bench.source.sample(missing[0].size, self.classes)
        whole = self._store(self.cells)  # by what is asked for, not by what is missing: a resumed run finds its tiles
        if whole.is_dir() or _bytes(missing) <= OF_FREE * self.bench.free_disk():
            yield from self._pass(missing, whole, sample, progress)
            return
        for number, depth in enumerate(_depths(missing)):
            group = [cell for cell in missing if cell.depth == depth]
            part = 1 / len(_depths(missing))

            def of_group(fraction: float, first: float = number * part, part: float = part) -> None:
                progress(first + fraction * part)

            store = self._store([cell for cell in self.cells if cell.depth == depth])
            yield from self._pass(group, store, sample, of_group)

    def _pass(
        self, group: Sequence[Asked], store: Path, sample: Sample, progress: Progress
    ) -> Iterator[tuple[Asked, Found]]:
        started = time.monotonic()
        try:
            matrices = self._matrices(group, store, sample, progress)
        except KernelError as error:
            if "was made for" not in str(error) and "damaged" not in str(error):
                raise
            # Of other depths, another backend or machine, or torn: ours to drop, and computed again.
            _drop(store)
            matrices = self._matrices(group, store, sample, progress)
        kernels = (time.monotonic() - started) / len(group)
        share = SOLVE_SHARE / len(group)
        for number, (cell, (matrix, cross)) in enumerate(zip(group, matrices, strict=True)):

            def solving(fraction: float, began: float = 1 - SOLVE_SHARE + number * share) -> None:
                progress(began + fraction * share)

            yield cell, self._solved(matrix, cross, sample, kernels, solving)
            for folder in _folders(store, cell):  # recorded by now
                shutil.rmtree(folder, ignore_errors=True)
        _drop(store)

    def _matrices(
        self, group: Sequence[Asked], store: Path, sample: Sample, progress: Progress
    ) -> list[tuple[Gram, Cross]]:
        n, m = len(sample.y), len(sample.y_test)
        if _complete(store).exists():
            if all(len(_folders(store, cell)) == 2 for cell in group):
                gpus = gpus_of(self.bench.backend, self.bench.gpus, self.bench.engine)
                return [_stored(store, cell, n, m, gpus) for cell in group]
            _drop(store)
        depths = _depths(group)
        kinds = {cell.column.kind for cell in group}
        kind: Kind = "both" if len(kinds) == 2 else "nngp" if kinds == {"nngp"} else "ntk"
        of_gram = (1 - SOLVE_SHARE) * (n + 1) / (n + 1 + 2 * m)
        with disk_errors(store):
            store.parent.mkdir(parents=True, exist_ok=True)
        family = gram_family(
            [group[0].column.architecture(depth) for depth in depths],
            sample.x,
            store=store,
            kind=kind,
            backend=self.bench.backend,
            devices=self.bench.gpus,
            dtype=DTYPE,
            engine=self.bench.engine,
            progress=lambda fraction: progress(fraction * of_gram),
            cancelled=self.bench.cancelled,
        )
        crosses = family.against(
            sample.x_test,
            progress=lambda fraction: progress(of_gram + fraction * (1 - SOLVE_SHARE - of_gram)),
            cancelled=self.bench.cancelled,
        )
        write_file(_complete(store), lambda file: None)
        found = []
        for cell in group:
            pair = family[depths.index(cell.depth)], crosses[depths.index(cell.depth)]
            if kind == "both":
                which = ("nngp", "ntk").index(cell.column.kind)
                pair = pair[0][which], pair[1][which]
            found.append(pair)
        return found

    def _solved(self, matrix: Gram, cross: Cross, sample: Sample, kernels: float, progress: Progress) -> Found:
        started = time.monotonic()
        solution = solve(
            matrix,
            sample.y,
            sample.num_classes,
            engine=self.bench.engine,
            progress=progress,
            cancelled=self.bench.cancelled,
        )
        correct = np.empty(len(sample.y_test), dtype=bool)
        for top, rows in cross.row_blocks(1000):
            predictions = rows.astype(np.float64) @ solution.alpha
            correct[top : top + len(rows)] = predictions.argmax(axis=1) == sample.y_test[top : top + len(rows)]
        return Found(
            float(correct.mean()),
            kernels + time.monotonic() - started,
            {
                "kernel_seconds": kernels,  # of the pass, shared equally by its cells
                "jitter": solution.jitter,
                "residual": solution.residual,
                "backend": self.bench.backend,
                "dtype": DTYPE,
                "correct": packed(correct),
            },
        )

    def _store(self, cells: Sequence[Asked]) -> Path:
        return self.bench.folder / "tiles" / settings_hash({"cells": sorted(cell.hash for cell in cells)})


def _complete(store: Path) -> Path:
    return store.with_suffix(".complete")


def _drop(store: Path) -> None:
    _complete(store).unlink(missing_ok=True)
    shutil.rmtree(store, ignore_errors=True)


def _depths(cells: Sequence[Asked]) -> list[int]:
    return sorted({cell.depth for cell in cells})


def _bytes(cells: Sequence[Asked]) -> float:
    size = cells[0].size
    return 4.0 * len(cells) * (size.train * (size.train + 1) / 2 + size.train * size.test)


def _name(cell: Asked) -> str:
    return f"{cell.column.architecture(cell.depth).key}-{cell.column.kind}"


def _folders(store: Path, cell: Asked) -> list[Path]:
    """Return where the two matrices of a cell lie, as far as they do."""
    name = _name(cell)
    return [*store.glob(name), *store.glob(f"test-*-{name}")]


def _stored(path: Path, cell: Asked, n: int, m: int, gpus: tuple[int, ...]) -> tuple[Gram, Cross]:
    """Return the matrices of a cell from a store that is complete, whatever else was computed in it."""
    gram, cross = _folders(path, cell)
    store, dtype = Store(path, {}, 0), np.dtype(DTYPE)
    return (
        Gram(Place(n, n, dtype, True, store=store, name=gram.name), gpus),
        Cross(Place(m, n, dtype, False, store=store, name=cross.name)),
    )
