"""Verdicts as a table for a terminal, as JSON, and every cell's scores as CSV."""

from __future__ import annotations

import csv
import io
import json
import math

from rich.console import Group
from rich.table import Table
from rich.text import Text

from nas_cntk.benchmark.judge import BAR, Result, Verdict
from nas_cntk.benchmark.session import Ended
from nas_cntk.report import text

# Heading, figure, decimals, and the width of the terminal from which it is shown.
_COLUMNS = (
    ("Kendall", "kendall", 2, 88),
    ("given FLOPs", "partial_log_flops", 2, 0),
    ("best half", "spearman_top50", 2, 98),
    ("quarter", "spearman_top25", 2, 108),
    ("tenth", "spearman_top10", 2, 0),
    ("nDCG", "ndcg", 2, 116),
    ("hits", "hits_top1", 2, 124),
    ("regret", "regret", 2, 0),
)


def table(result: Result, width: int) -> Group:
    """Return the verdicts, best Spearman correlation first, and below them the same by convs in the cell."""
    verdicts = sorted(result.verdicts, key=lambda v: -(v.figures["spearman"] or -2.0))
    main = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    main.add_column("score", no_wrap=True)
    main.add_column("Spearman  [95 %]", justify="right", no_wrap=True)
    shown = [column for column in _COLUMNS if width >= column[3]]
    for heading, *_ in shown:
        main.add_column(heading, justify="right", no_wrap=True)
    main.add_column("s/cell", justify="right", no_wrap=True)
    for verdict in verdicts:
        cells = [_interval(verdict)]
        cells += [_number(verdict.figures[name], decimals) for _, name, decimals, _ in shown]
        name = verdict.name + (f" ({verdict.cells})" if verdict.cells < len(result.cells) else "")
        main.add_row(name, *cells, _seconds(verdict.seconds_per_cell))
    strata = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    strata.add_column("Spearman by convs", no_wrap=True)
    sizes = max((v.convs_cells for v in verdicts), key=len, default={})
    for count, cells_of in sizes.items():
        strata.add_column(f"{count} ({cells_of})", justify="right", no_wrap=True)
    for verdict in verdicts:
        strata.add_row(verdict.name, *(_number(verdict.by_convs.get(count), 2) for count in sizes))
    return Group(main, Text(), strata, Text(), *_notes(result))


def to_json(ended: Ended, result: Result) -> str:
    """Return the verdicts as JSON; what is not defined is null."""
    plan = ended.plan
    document = {
        "benchmark": "nasbench201",
        "cells": len(result.cells),
        "dead": sum(not cell.live for cell in result.cells),
        "distinct": plan.distinct,
        "target": plan.wishes.target,
        "seed": plan.wishes.seed,
        "image_size": plan.wishes.image_size,
        "subset": plan.subset,
        "holdout": plan.holdout,
        "cells_per_stage": plan.wishes.cells_per_stage,
        "scores": {verdict.name: verdict.to_dict() for verdict in result.verdicts},
    }
    return json.dumps(document, indent=2, allow_nan=False)


def to_csv(result: Result) -> str:
    """Return a line a cell with its target and every score as it is, empty where undefined."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = list(result.scores)
    writer.writerow(["arch_index", "arch_str", "key", "dead", "convs", "target", *names])
    for at, cell in enumerate(result.cells):
        values = [float(result.scores[name][at]) for name in names]
        shown = ["" if math.isnan(value) else repr(value) for value in values]
        key = result.keys[cell.text]
        writer.writerow([cell.index, cell.text, key, int(not cell.live), cell.convs, repr(cell.target), *shown])
    return out.getvalue()


def _notes(result: Result) -> list[Text]:
    lines = [
        "Scores that are undefined rank last; FLOPs and parameters count as the more, the better.",
        "hits: share of the truly best hundredth in the tenth that the score puts first. regret: target lost by taking"
        " the cell that it puts first.",
    ]
    undefined = [f"{v.name} {v.undefined}" for v in result.verdicts if v.undefined]
    if undefined:
        lines.append(f"undefined: {', '.join(undefined)}")
    beaten = [f"{v.name} {_signed(v.above_bar)}" for v in result.verdicts if v.above_bar is not None]
    if beaten:
        lines.append(f"Spearman above {BAR} on the same cells, 95 %: {', '.join(beaten)}")
    return [Text(line, style="dim") for line in lines]


def _interval(verdict: Verdict) -> str:
    value, interval = verdict.figures["spearman"], verdict.intervals["spearman"]
    found = _number(value, 3)
    return found if interval is None else f"{found}  [{interval[0]:.2f}, {interval[1]:.2f}]"


def _number(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"


def _signed(interval: tuple[float, float]) -> str:
    return f"[{interval[0]:+.2f}, {interval[1]:+.2f}]"


def _seconds(value: float | None) -> str:
    return "0" if value == 0 else text.duration(value).removesuffix(" s") if value is not None else "-"
