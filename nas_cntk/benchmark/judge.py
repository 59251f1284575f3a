"""The verdict on every score: how well it ranks the cells by their trained accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nas_cntk import nasbench201
from nas_cntk.benchmark import ranking
from nas_cntk.benchmark.bench import KERNELS
from nas_cntk.benchmark.session import Ended
from nas_cntk.benchmark.table import Cell, distinct
from nas_cntk.scores import SCORES
from nas_cntk.scores.combined import COMPONENTS, combined
from nas_cntk.scores.cost import BATCH
from nas_cntk.scoring import network_names

# The published combination that costs two lines of code, what a new one has to beat; and the same with the parameters
# of the pruned cell, which ranks better where many cells are the same network.
BAR, PRUNED_BAR = BARS = "params+jacov", "pruned params+jacov"
SIZES = ("flops", "params")  # minimised by a search, but as a proxy the greater the better
TOPS = {"spearman_top50": 2, "spearman_top25": 4, "spearman_top10": 10}

Interval = tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one score ranks; a figure that is not defined is None, and so is its interval."""

    name: str
    cells: int  # that it was computed for
    undefined: int  # of them, ranked last
    figures: Mapping[str, float | None]
    intervals: Mapping[str, Interval]
    by_convs: Mapping[str, float | None]
    convs_cells: Mapping[str, int]
    seconds_per_cell: float | None
    # Of its Spearman correlation minus those of the bars, on the same cells; without a bar's own.
    above: Mapping[str, Interval] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """Return it for JSON; "interval" is that of "spearman"."""
        return {
            **self.figures,
            "interval": self.intervals.get("spearman"),
            "intervals": dict(self.intervals),
            "by_convs": dict(self.by_convs),
            "cells_by_convs": dict(self.convs_cells),
            "cells": self.cells,
            "undefined": self.undefined,
            "seconds_per_cell": self.seconds_per_cell,
            "above_params_jacov": self.above.get(BAR),
            "above_pruned_params_jacov": self.above.get(PRUNED_BAR),
        }


@dataclass(frozen=True, slots=True)
class Result:
    """Every cell's scores, as they are, and the verdicts."""

    what: str  # "cells", or "networks" where each of these counts once
    cells: tuple[Cell, ...]
    keys: Mapping[str, str]
    scores: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)  # NaN: undefined or not computed
    verdicts: tuple[Verdict, ...] = ()


def judge(ended: Ended) -> Result:
    """Return the verdict on every wanted score, on the cells that all of them are known for.

    A score is taken on the cells that it is known for: all of them, but for short training and after an interruption.
    """
    what, cells = "cells", ended.plan.cells
    if ended.plan.wishes.distinct:
        what, cells = "networks", distinct(cells, ended.keys)
    target = np.array([cell.target for cell in cells])
    flops = np.array([nasbench201.sizes(cell.text)[1] for cell in cells], dtype=np.float64)
    pruned = np.array([nasbench201.sizes(nasbench201.pruned(cell.text))[0] for cell in cells], dtype=np.float64)
    scores: dict[str, NDArray[np.float64]] = {}
    known: dict[str, NDArray[np.bool_]] = {}
    wanted = ended.plan.wishes.scores
    needed = dict.fromkeys([*wanted, *(COMPONENTS if "combined" in wanted else ())])
    for name in needed:
        if name != "combined":
            scores[name], known[name] = _values(ended, cells, name)
    if "combined" in wanted:
        rows = zip(*(pruned if name == "params" else scores[name] for name in COMPONENTS), strict=True)
        images = min(BATCH, ended.plan.wishes.subset)
        scores["combined"] = np.array([combined(dict(zip(COMPONENTS, row, strict=True)), images) for row in rows])
        known["combined"] = np.logical_and.reduce([known[name] for name in COMPONENTS])
    ranked = {name: _oriented(name, values) for name, values in scores.items()}
    names = [name for name in wanted if known[name].any()]
    if "params" in names and "jacov" in names:
        on = known["jacov"]
        for name, weights in zip(BARS, (ranked["params"], pruned), strict=True):
            known[name], ranked[name] = on, np.full(len(cells), -np.inf)
            ranked[name][on] = ranking.log_rank_sum(weights[on], ranked["jacov"][on])
        names += BARS
    verdicts = []
    for name in names:
        on = known[name]
        bars = {bar: ranked[bar][on] for bar in BARS if bar in names and name != bar and bool(known[bar][on].all())}
        some = [cell for cell, there in zip(cells, on, strict=True) if there]
        undefined = 0 if name in BARS else int(np.isnan(scores[name][on]).sum())
        verdicts.append(
            _verdict(name, ranked[name][on], target[on], flops[on], some, undefined, bars, _seconds(ended, name))
        )
    return Result(what, cells, ended.keys, {name: scores[name] for name in needed}, tuple(verdicts))


def _values(ended: Ended, cells: Sequence[Cell], name: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    if name in SIZES:
        values = [float(nasbench201.sizes(cell.text)[name == "flops"]) for cell in cells]
        return np.array(values), np.ones(len(cells), dtype=bool)
    part = KERNELS if SCORES[name].kernels else name
    found = [ended.found[part].get(ended.keys[cell.text]) for cell in cells]
    values = [math.nan if one is None else one.values[name] for one in found]
    return np.array(values), np.array([one is not None for one in found])


def _oriented(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    better = values if name in SIZES or SCORES[name].direction == "maximize" else -values
    return np.where(np.isfinite(better), better, -np.inf)


def _seconds(ended: Ended, name: str) -> float | None:
    """Return what a cell takes, on average over the live ones that were computed."""
    names = ("params", "jacov") if name in BARS else (name,)
    parts = {part for one in names for part in network_names((one,))}
    parts |= {KERNELS for one in names if one not in SIZES and SCORES[one].kernels}
    total = 0.0
    for part in parts:
        times = [one.seconds for one in ended.found[part].values() if one.seconds > 0]
        if not times:
            return None
        total += sum(times) / len(times)
    return total


def _verdict(
    name: str,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    flops: NDArray[np.float64],
    cells: Sequence[Cell],
    undefined: int,
    bars: Mapping[str, NDArray[np.float64]],
    seconds: float | None,
) -> Verdict:
    samples = ranking.draws(len(x), 0)
    found = ranking.spearmans(x, y, samples)
    figures: dict[str, float] = {
        "spearman": ranking.spearman(x, y),
        "kendall": ranking.kendall(x, y),
        "partial_log_flops": ranking.partial(x, y, flops),
        "ndcg": ranking.ndcg(x, y),
        "hits_top1": ranking.hits(x, y),
        "regret": ranking.regret(x, y),
    }
    intervals = {
        "spearman": ranking.percentiles(found),
        "kendall": ranking.percentiles(ranking.kendalls(x, y, samples)),
        "partial_log_flops": ranking.percentiles(ranking.partials(x, y, flops, samples)),
        "ndcg": ranking.interval(ranking.ndcg, x, y, samples),
        "hits_top1": ranking.interval(ranking.hits, x, y, samples),
        "regret": ranking.interval(ranking.regret, x, y, samples),
    }
    best_first = np.argsort(-y, kind="stable")
    for top, share in TOPS.items():
        within = best_first[: len(y) // share]
        if len(within) < ranking.LEAST:
            figures[top], intervals[top] = math.nan, None
            continue
        figures[top] = ranking.spearman(x[within], y[within])
        inner = ranking.draws(len(within), share)
        intervals[top] = ranking.percentiles(ranking.spearmans(x[within], y[within], inner))
    convs = np.array([cell.convs for cell in cells])
    strata = {count: convs == count for count in sorted(set(convs.tolist()))}
    return Verdict(
        name=name,
        cells=len(x),
        undefined=undefined,
        figures={key: _number(value) for key, value in figures.items()},
        intervals=intervals,
        by_convs={
            str(count): _number(ranking.spearman(x[on], y[on])) if on.sum() >= ranking.LEAST else None
            for count, on in strata.items()
        },
        convs_cells={str(count): int(on.sum()) for count, on in strata.items()},
        seconds_per_cell=seconds,
        above={bar: ranking.percentiles(found - ranking.spearmans(of, y, samples)) for bar, of in bars.items()},
    )


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
