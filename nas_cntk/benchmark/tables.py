"""Verdicts as a table for a terminal, as JSON, and every cell's scores as CSV."""

from __future__ import annotations

import csv
import io
import json
import math

from rich.console import Group
from rich.table import Table
from rich.text import Text

from nas_cntk.benchmark.judge import BARS, Result, Verdict
from nas_cntk.benchmark.session import Ended
from nas_cntk.report import text

# Heading, figure, and the width of the terminal from which it is shown.
_COLUMNS = (
    ("Kendall", "kendall", 100),
    ("partial", "partial_log_flops", 0),
    ("half", "spearman_top50", 114),
    ("quarter", "spearman_top25", 114),
    ("tenth", "spearman_top10", 0),
    ("nDCG", "ndcg", 128),
    ("hits", "hits_top1", 128),
    ("regret", "regret", 0),
)


def table(result: Result, width: int) -> Group:
    """Return the verdicts, best Spearman correlation first, and below them the same by convs in the cell."""
    verdicts = sorted(result.verdicts, key=lambda v: -(v.figures["spearman"] or -2.0))
    main = _table("score", "Spearman [95 %]", *(h for h, _, least in _COLUMNS if width >= least), "s/cell")
    for verdict in verdicts:
        figures = [_number(verdict.figures[name]) for _, name, least in _COLUMNS if width >= least]
        name = verdict.name + (f" ({verdict.cells})" if verdict.cells < len(result.cells) else "")
        main.add_row(name, _interval(verdict), *figures, _seconds(verdict.seconds_per_cell))
    sizes = max((v.convs_cells for v in verdicts), key=len, default={})
    strata = _table("Spearman by convs in the cell", *sizes)
    strata.add_row(result.what, *(str(cells) for cells in sizes.values()), style="dim")
    for verdict in verdicts:
        strata.add_row(verdict.name, *(_number(verdict.by_convs.get(count)) for count in sizes))
    return Group(main, Text(), strata, Text(), *_notes(result))


def _table(first: str, *others: str) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    made.add_column(first, no_wrap=True)
    for heading in others:
        made.add_column(heading, justify="right", no_wrap=True)
    return made


def to_json(ended: Ended, result: Result) -> str:
    """Return the verdicts as JSON; what is not defined is null."""
    plan = ended.plan
    document = {
        "benchmark": "nasbench201",
        "cells": len(result.cells),
        "dead": sum(not cell.live for cell in result.cells),
        "distinct": plan.distinct,
        "networks_once": plan.wishes.distinct,
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
    dead = sum(not cell.live for cell in result.cells)
    lines = [
        "partial: given log FLOPs. half, quarter, tenth: among the truly best ones. hits: share of the truly best"
        " hundredth in the tenth that the score puts first. regret: target lost by taking the cell that it puts first."
        " FLOPs and parameters count as the more, the better; pruned parameters leave out edges that nothing reads."
        " What is undefined ranks last.",
    ]
    if dead:
        cells = "the dead cell" if dead == 1 else f"{dead} dead cells"
        lines.append(f"Of {cells} accuracies are those of guessing, and everything else is undefined.")
    undefined = [f"{v.name} {v.undefined - dead}" for v in result.verdicts if v.undefined > dead]
    if undefined:
        lines.append(f"Undefined on live cells: {', '.join(undefined)}.")
    for bar in BARS:
        compared = [(v.name, *found) for v in result.verdicts if v.name not in BARS and (found := v.above.get(bar))]
        for words, names in (
            ("Above", [name for name, low, _ in compared if low > 0]),
            ("Below", [name for name, _, high in compared if high < 0]),
            ("Not told apart from", [name for name, low, high in compared if low <= 0 <= high]),
        ):
            if names:
                lines.append(f"{words} {bar} (95 %, paired): {', '.join(names)}.")
    return [Text(line, style="dim") for line in lines]


def _interval(verdict: Verdict) -> str:
    found, interval = _number(verdict.figures["spearman"]), verdict.intervals["spearman"]
    return found if interval is None else f"{found} [{interval[0]:.2f}, {interval[1]:.2f}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _seconds(value: float | None) -> str:
    return "0" if value == 0 else text.duration(value).removesuffix(" s") if value is not None else "-"
