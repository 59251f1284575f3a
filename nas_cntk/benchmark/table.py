"""The table of trained accuracies, and the sample of its cells that is scored."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from nas_cntk import nasbench201
from nas_cntk.errors import ArchitectureError, DataError

TARGET = "cifar10_test_200ep"
DEAD_KEY = "dead"  # the canonical key of every cell whose output does not see its input


@dataclass(frozen=True)
class Cell:
    """A cell of the table with its trained accuracy, as the table has it (percent or a fraction)."""

    text: str
    target: float
    index: str  # `arch_index` as it stands; empty where the table has none

    @cached_property
    def live(self) -> bool:
        """Whether its output sees its input."""
        return nasbench201.is_live(self.text)

    @cached_property
    def convs(self) -> int:
        """Convs among its six edges."""
        return nasbench201.convs(self.text)


@dataclass(frozen=True, slots=True)
class Table:
    """The cells that have a target, in the order of their strings, and how many rows have none."""

    cells: tuple[Cell, ...]
    blank: int


def read_table(path: str, target: str = TARGET) -> Table:
    """Return the cells of a CSV file with columns `arch_str`, `target` and, if it is there, `arch_index`.

    Raises:
        DataError: if the file cannot be read, a column is missing, or a line holds no cell or no number.
    """
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a text file"
        raise DataError(f"table {path} cannot be read: {reason}") from None
    reader = csv.DictReader(io.StringIO(text, newline=""))
    columns = [name for name in reader.fieldnames or [] if name]
    for needed in ("arch_str", target):
        if needed not in columns:
            shown = ", ".join(columns)[:200] or "none"
            raise DataError(f"table {path} has no column {needed!r}; it has {shown}")
    cells: dict[str, Cell] = {}
    blank = 0
    try:
        for row in reader:
            where = f"table {path}, line {reader.line_num}"
            try:
                name = nasbench201.text_of(nasbench201.parse(row["arch_str"] or ""))
            except ArchitectureError as error:
                raise DataError(f"{where}: {error}") from None
            value = (row[target] or "").strip()
            if not value:
                blank += 1
                continue
            try:
                number = float(value)
            except ValueError:
                number = math.nan
            if not math.isfinite(number):
                raise DataError(f"{where}: {target} is {value[:30]!r}, no number")
            if name in cells:
                raise DataError(f"{where}: cell {name} stands there twice; leave each one once")
            cells[name] = Cell(name, number, (row.get("arch_index") or "").strip())
    except csv.Error as error:
        raise DataError(f"table {path}, line {reader.line_num}: {error}") from None
    if not cells:
        raise DataError(f"table {path} has no cell with a {target}")
    return Table(tuple(cells[name] for name in sorted(cells)), blank)


def sample(table: Table, count: int, seed: int) -> tuple[Cell, ...]:
    """Return `count` cells drawn without replacement, or all if there are fewer.

    They depend on the seed and on which cells the table has, not on their order; a larger count with the same seed
    begins with the cells of a smaller one.
    """
    order = np.random.default_rng(seed).permutation(len(table.cells))
    return tuple(table.cells[at] for at in order[:count])


def distinct(cells: Sequence[Cell], keys: Mapping[str, str]) -> tuple[Cell, ...]:
    """Return each network once, in the order of first appearance: as its smallest cell, with the mean of the targets.

    Cells of equal networks may differ in edges that nothing reads, which the benchmark counts as parameters.

    Args:
        cells: any cells.
        keys: the canonical key of each of them.
    """
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(keys[cell.text], []).append(cell)
    return tuple(
        replace(
            min(group, key=lambda cell: nasbench201.sizes(cell.text)[0]),
            target=sum(cell.target for cell in group) / len(group),
        )
        for group in groups.values()
    )
