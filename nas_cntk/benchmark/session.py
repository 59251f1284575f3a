"""One run of `nas-cntk benchmark nasbench201`: sample, predict, measure what is missing, judge the scores."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from nas_cntk import nasbench201
from nas_cntk.benchmark.bench import KERNELS, NAME, TRAINING, Bench, Images, Progress
from nas_cntk.benchmark.table import DEAD_KEY, Cell, Table, read_table, sample
from nas_cntk.benchmark.wishes import Wishes
from nas_cntk.errors import UsageError
from nas_cntk.kernels.exact import resolve_backend
from nas_cntk.records import benchmark as records_of
from nas_cntk.records.benchmark import Measurement
from nas_cntk.records.database import Records
from nas_cntk.records.migrations import open_records
from nas_cntk.scores import SCORES
from nas_cntk.scores.cost import network_seconds
from nas_cntk.search.interrupt import Interrupt

_PREVIEWS = 8  # cells whose cost stands for all


@dataclass(frozen=True, slots=True)
class Plan:
    """What is about to be measured, for the screen."""

    wishes: Wishes
    table: Table
    cells: tuple[Cell, ...]
    distinct: int  # canonical keys among them; all dead cells are one
    data: str
    subset: int
    holdout: int
    notes: tuple[str, ...]
    backend: str
    missing: Mapping[str, int]  # by part: cells that are not measured yet
    seconds: Mapping[str, float]  # by part: predicted for those


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: what every part of every cell came to, as far as it is measured."""

    plan: Plan
    found: Mapping[str, Mapping[str, Measurement]]  # by part, then by canonical key
    keys: Mapping[str, str]  # canonical keys by cell
    interrupted: bool


class Screen(Protocol):
    """Who shows a run."""

    def begins(self, plan: Plan) -> None:
        """The first cell is about to be measured."""

    def part_begins(self, part: str, cells: int, seconds: float) -> None:
        """A part of so many cells is about to be measured."""

    def progress(self, cells: float) -> None:
        """So many of them are done."""

    def part_ends(self, part: str, cells: int, seconds: float) -> None:
        """So many of them were measured in so many seconds."""


def run(db: str, wishes: Wishes, screen: Screen) -> Ended:
    """Measure the sample's cells as far as they are not recorded.

    Raises:
        NasCntkError: whatever is wrong with table, data, scores or database.
    """
    table = read_table(wishes.table, wishes.target)
    cells = sample(table, wishes.cells, wishes.seed)
    if len(cells) < 2:
        raise UsageError(f"table {wishes.table} has {len(cells)} cell with a {wishes.target}: nothing to rank")
    if any(SCORES[name].needs_network for name in wishes.scores):
        import nas_cntk.scores.batch  # noqa: F401  torch is missed before anything is loaded
    bench = Bench(wishes, Images(wishes), resolve_backend(wishes.backend))
    dataset, split = bench.images.of(wishes.image_size)
    records = open_records(db, write=True)
    try:
        with Interrupt() as interrupt:
            keys = {cell.text: bench.key(cell) for cell in cells}
            if wishes.distinct and len(set(keys.values())) < 2:
                raise UsageError(f"all {len(cells)} cells of the sample are one network: nothing to rank")
            recorded = records_of.measurements(records, NAME)
            live: dict[str, Cell] = {}
            for cell in cells:
                if cell.live:
                    live.setdefault(keys[cell.text], cell)
            known: dict[str, dict[str, Measurement]] = {}
            for part in bench.parts:
                hashes = {key: bench.settings(key, part) for key in live}
                known[part] = {key: recorded[h] for key, h in hashes.items() if h in recorded}
                if DEAD_KEY in keys.values():
                    known[part][DEAD_KEY] = bench.of_dead(part)
            missing = {
                part: _missing(part, [cell for key, cell in live.items() if key not in of_part], of_part, wishes)
                for part, of_part in known.items()
            }
            plan = Plan(
                wishes=wishes,
                table=table,
                cells=cells,
                distinct=len(set(keys.values())),
                data=dataset.name,
                subset=len(split.x),
                holdout=len(split.x_holdout),
                notes=split.notes,
                backend=bench.backend,
                missing={part: len(of_part) for part, of_part in missing.items()},
                seconds={part: _predicted(bench, part, of_part) for part, of_part in missing.items()},
            )
            screen.begins(plan)
            interrupted = False
            try:
                for part, of_part in missing.items():
                    if of_part:
                        _measure(records, bench, part, of_part, keys, known[part], plan, screen, interrupt)
            except KeyboardInterrupt:
                interrupted = True
        return Ended(plan, known, keys, interrupted)
    finally:
        records.close()


def _missing(part: str, cells: list[Cell], known: Mapping[str, Measurement], wishes: Wishes) -> list[Cell]:
    spent = sum(measured.seconds for measured in known.values())
    return [] if part == TRAINING and spent >= wishes.train_seconds else cells


def _predicted(bench: Bench, part: str, cells: Sequence[Cell]) -> float:
    if not cells:
        return 0.0
    if part == KERNELS:
        from nas_cntk.kernels import cost

        return len(cells) * bench.kernel_seconds(cells[:_PREVIEWS], cost.measure_rate(bench.backend))
    subset, holdout = bench.wishes.subset, bench.wishes.holdout
    seconds = sum(network_seconds((part,), nasbench201.sizes(cell.text)[1], subset, holdout) for cell in cells)
    return min(seconds, bench.wishes.train_seconds) if part == TRAINING else seconds


def _measure(
    records: Records,
    bench: Bench,
    part: str,
    cells: Sequence[Cell],
    keys: Mapping[str, str],
    known: dict[str, Measurement],
    plan: Plan,
    screen: Screen,
    interrupt: Interrupt,
) -> None:
    started = time.monotonic()
    spent = sum(measured.seconds for measured in known.values())
    done = 0
    screen.part_begins(part, len(cells), plan.seconds[part])
    for cell in cells:
        if part == TRAINING and spent >= bench.wishes.train_seconds:
            break
        if interrupt.requested:
            raise KeyboardInterrupt
        key = keys[cell.text]
        found = bench.measure(cell, part, _after(done, screen), lambda: interrupt.requested)
        records_of.record(records, bench.settings(key, part), NAME, key, part, found)
        known[key] = found
        spent += found.seconds
        done += 1
        screen.progress(done)
    screen.part_ends(part, done, time.monotonic() - started)


def _after(done: int, screen: Screen) -> Progress:
    return lambda fraction: screen.progress(done + fraction)
