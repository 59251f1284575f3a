"""One run of `nas-cntk paper`: predict, compute cell by cell, write JSON and plots.

Every finished cell is recorded at once, and never computed again.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from nas_cntk.cluster import engine_of
from nas_cntk.errors import BackendUnavailable, NasCntkError
from nas_cntk.files import write_file
from nas_cntk.kernels.exact import resolve_backend
from nas_cntk.machine import gpu_numbers
from nas_cntk.paper import gp, table1, table2, theorem1, theorem2
from nas_cntk.paper import rows as states
from nas_cntk.paper.bench import Asked, Bench, Forecast, Found, Rate, Unit, cell_of, paper_folder
from nas_cntk.paper.images import ImageSource
from nas_cntk.paper.machine import provenance
from nas_cntk.paper.rows import Row, row_of, to_json
from nas_cntk.paper.wishes import Wishes
from nas_cntk.records import paper
from nas_cntk.records.migrations import open_records
from nas_cntk.search.interrupt import Interrupt
from nas_cntk.validate.devices import resolve_devices

EXPERIMENTS: Mapping[str, Callable[[Bench], list[Unit]]] = {
    table1.NAME: table1.units,
    table2.NAME: table2.units,
    theorem1.NAME: theorem1.units,
    theorem2.NAME: theorem2.units,
    gp.NAME: gp.units,
}


@dataclass(frozen=True, slots=True)
class Planned:
    """A unit with what is missing of it."""

    unit: Unit
    missing: tuple[Asked, ...]
    forecast: Forecast
    left_out: str = ""  # why it is not begun; empty: it is


@dataclass(frozen=True, slots=True)
class Plan:
    """What is about to be done, for the screen."""

    experiment: str
    bench: Bench
    units: tuple[Planned, ...]

    @property
    def seconds(self) -> float:
        """What all that is begun is predicted to take."""
        return sum(one.forecast.seconds for one in self.units if one.missing and not one.left_out)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended."""

    rows: Mapping[str, tuple[Row, ...]]  # by experiment
    files: tuple[Path, ...]
    interrupted: bool


class Screen(Protocol):
    """Who shows a run."""

    def measures(self, what: str) -> None:
        """A timing is taken."""

    def begins(self, plans: Sequence[Plan]) -> None:
        """The first unit is about to begin."""

    def unit_begins(self, plan: Plan, one: Planned) -> None:
        """A unit begins."""

    def progress(self, fraction: float) -> None:
        """So much of the unit is done."""

    def cell_ends(self, row: Row) -> None:
        """A cell is recorded, or has failed."""


def run(names: Sequence[str], db: str, wishes: Wishes, screen: Screen, *, plots: bool = True) -> Ended:
    """Compute the cells of one experiment or several that are not recorded yet.

    Raises:
        NasCntkError: whatever is wrong before the first cell; a cell that fails later is a state of its row.
    """
    if plots and importlib.util.find_spec("matplotlib") is None:
        raise BackendUnavailable(
            "plots need matplotlib, which is not installed: pip install 'nas-cntk[report]', or add --no-plot"
        )
    backend = resolve_backend(wishes.backend)
    gpus = _gpus(wishes, backend)
    source = ImageSource(wishes.data, download=wishes.download)
    records = open_records(db, write=True)
    try:
        with engine_of(wishes.cluster) as engine, Interrupt() as interrupt:
            rate = Rate(backend, gpus)
            folder = paper_folder(db)
            bench = Bench(records, folder, source, wishes, backend, rate, lambda: interrupt.requested, engine, gpus)
            reasons: dict[str, tuple[str, str]] = {}
            plans: list[Plan] = []
            try:
                plans = [_plan(name, _bench_of(name, bench, len(names) > 1), screen) for name in names]
                screen.begins(plans)
                for plan in plans:
                    _run(plan, reasons, screen)
            except KeyboardInterrupt:
                return Ended(_rows(plans, reasons), (), True)
        rows = _rows(plans, reasons)
        return Ended(rows, _write(rows, bench.folder, plots), False)
    finally:
        records.close()


def _gpus(wishes: Wishes, backend: str) -> tuple[int, ...] | None:
    """Return the GPUs of kernels that `--devices` names; those of a cluster's workers are their own."""
    if backend != "cuda" or wishes.cluster is not None or "cuda:" not in wishes.devices:
        return None
    numbers = gpu_numbers(wishes.devices)
    resolve_backend(backend, numbers)
    return numbers


def _bench_of(name: str, bench: Bench, many: bool) -> Bench:
    # Sizes that are meant for tables would make days of the theorems' few images and one depth.
    if not many or not name.startswith("theorem"):
        return bench
    return replace(bench, wishes=replace(bench.wishes, depths=(), train=None, test=None))


def _plan(name: str, bench: Bench, screen: Screen) -> Plan:
    planned = []
    for unit in EXPERIMENTS[name](bench):
        bench.poll()
        missing = tuple(cell for cell in unit.cells if paper.find_cell(bench.records, cell.hash) is None)
        if not missing:
            planned.append(Planned(unit, (), Forecast(0.0)))
            continue
        if unit.trains:
            resolve_devices(bench.wishes.devices)  # without torch nothing is begun
        screen.measures(unit.name)
        forecast = unit.forecast(missing)
        left_out = forecast.impossible
        limit = bench.wishes.max_seconds
        if not left_out and limit is not None and forecast.seconds > limit:
            left_out = f"predicted {forecast.seconds:.0f} s, beyond --max-seconds {limit:g}"
        planned.append(Planned(unit, missing, forecast, left_out))
    return Plan(name, bench, tuple(planned))


def _run(plan: Plan, reasons: dict[str, tuple[str, str]], screen: Screen) -> None:
    bench = plan.bench
    source = {**provenance(bench.backend), "data_name": bench.source.raw.name}
    for one in plan.units:
        if not one.missing:
            continue
        if one.left_out:
            for cell in one.missing:
                reasons[cell.hash] = states.TOO_LARGE, one.left_out
            continue
        screen.unit_begins(plan, one)
        finished: set[str] = set()
        try:
            for cell, found in one.unit.run(one.missing, screen.progress):
                recorded = cell_of(cell, Found(found.accuracy, found.seconds, {**found.details, **source}))
                paper.record_cell(bench.records, recorded)
                finished.add(cell.hash)
                screen.cell_ends(row_of(cell, recorded))
        except NasCntkError as error:
            for cell in one.missing:
                if cell.hash not in finished:
                    reasons[cell.hash] = states.FAILED, " ".join(str(error).split())
                    screen.cell_ends(row_of(cell, None, *reasons[cell.hash]))


def _rows(plans: Sequence[Plan], reasons: Mapping[str, tuple[str, str]]) -> dict[str, tuple[Row, ...]]:
    return {
        plan.experiment: tuple(
            row_of(cell, paper.find_cell(plan.bench.records, cell.hash), *reasons.get(cell.hash, (states.PENDING, "")))
            for one in plan.units
            for cell in one.unit.cells
        )
        for plan in plans
    }


def _write(rows: Mapping[str, tuple[Row, ...]], folder: Path, plots: bool) -> tuple[Path, ...]:
    files = []
    for name, of_one in rows.items():
        path = folder / f"{name}.json"
        _save(path, (to_json(of_one) + "\n").encode())
        files.append(path)
        if plots and any(row.state == states.DONE for row in of_one):
            from nas_cntk.paper.plot import png

            path = folder / f"{name}.png"
            _save(path, png(name, of_one))
            files.append(path)
    return tuple(files)


def _save(path: Path, content: bytes) -> None:
    write_file(path, lambda file: file.write(content))
