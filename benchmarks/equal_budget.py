"""The best cell that a search has found against what it has spent, for several ways to judge a proposal.

    nas-cntk benchmark nasbench201 --table odd.csv --data cifar10:PATH --cells 1000 --subset 300 --holdout 50 \\
        --score alignment_gain,alignment,combined,jacov,synflow,params,flops --csv cells.csv --json > cells.json
    python benchmarks/equal_budget.py cells.csv cells.json cifar10.csv [--seeds 50] [--plot equal_budget.png]

The pool are the cells of the CSV; nothing is computed anew. A proposal outside the pool becomes the pool's nearest cell
in the six edges that is not scored yet, for every way alike; equals are drawn. After each score the cell that scores
best so far counts with its accuracy after 200 epochs, which no way sees.

What a score costs is the mean over the pool, in seconds as they were measured, and in operations: 30 per entry-layer of
a kernel, two per multiply-add of a network, a gradient counting as two passes. Twelve epochs are 25,000 images each,
three passes; their seconds are predicted at `--rate` multiply-adds a second. Dead cells cost nothing, for all alike.
"parameters + jacov" is the sum of the logs of the ranks within the pool, which a search could not know; pruned
parameters leave out the edges of a cell that nothing reads.

With `--rung cells150.csv cells150.json`, of the same cells on fewer images, there are two ways more: alignment_gain on
those alone, and with rungs: every proposal is scored on those, and only one that is not below the median of what was
found there so far goes on to all images, for the cost of what these add; one that is dropped TPE sees as pruned.

Last, what ranking alone is worth: the mean accuracy of the cell that a score puts first, and of the best of its first
five, over random pools of 300 of the cells.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_cntk import nasbench201
from nas_cntk.benchmark import ranking
from nas_cntk.kernels import cost
from nas_cntk.search.samplers import choose_sampler, make_sampler

OPS_PER_ENTRY_LAYER = 30.0
EPOCHS, IMAGES = 12, 25_000
BATCH = 64  # images that a score of a finite network sees
PASSES = {"synflow": 2.0 / BATCH, "jacov": 3.0}
TOP = (1.0, 0.5, 0.1)  # points below the pool's best, at which a way has arrived
POOLS, POOL, FIRST = 2_000, 300, 5

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Way:
    """A way to judge proposals: the more the better; seconds and operations of each, those of its rung included."""

    name: str
    sampler: str
    values: Floats  # shape: (cells,)
    seconds: Floats  # shape: (cells,)
    operations: Floats  # shape: (cells,)
    trials: int
    rung: Way | None = None  # what decides whether a proposal is scored at all


@dataclass(frozen=True)
class Searches:
    """What searches of one way did, a row a seed and a column a trial."""

    accuracy: Floats  # of the best-scored cell so far
    cells: NDArray[np.int64]
    dropped: NDArray[np.bool_]  # at the rung


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", help="what `benchmark nasbench201 --csv` wrote")
    parser.add_argument("json", help="what it printed with --json")
    parser.add_argument("table", help="the table of trained accuracies, with its columns of twelve epochs")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--rate", type=float, default=3e10, help="multiply-adds a second of a training")
    parser.add_argument("--rung", nargs=2, metavar=("CELLS", "JSON"), help="the same cells on fewer images")
    parser.add_argument("--plot", metavar="FILE")
    given = parser.parse_args()
    rows, summary = _read(given.cells, given.json)
    with open(given.table, newline="", encoding="utf-8") as file:
        short = {row["arch_str"]: row["cifar10_valid_12ep"] for row in csv.DictReader(file)}
    accuracy = np.array([float(row["target"]) for row in rows])
    print(f"pool of {len(rows)} cells, {sum(row['dead'] == '1' for row in rows)} dead, best {accuracy.max():.2f} %")
    ways = _ways(rows, summary, short, given)
    if given.rung:
        fewer, of_fewer = _read(*given.rung)
        if [row["arch_str"] for row in fewer] != [row["arch_str"] for row in rows]:
            raise SystemExit("error: the cells of --rung are other ones")
        ways[1:1] = _with_rungs(ways[0], _kernel_way(fewer, of_fewer, given.trials), of_fewer["subset"])
    edges = np.array([[nasbench201.OPS.index(op) for op in nasbench201.parse(row["arch_str"])] for row in rows])
    curves: dict[str, Searches] = {}
    for unit in ("seconds", "operations"):
        print(f"\ncost in {unit}")
        print(f"{'way':40}  {'final [95 %]':20}  to 1.0, 0.5, 0.1 points below the best")
        for way in ways:
            if way.name not in curves:
                curves[way.name] = _searched(way, edges, accuracy, given.seeds)
            _report(way, curves[way.name], unit, accuracy.max())
    _print_first(ways, rows, accuracy)
    if given.plot:
        _plot(ways, curves, accuracy, given.plot)


def _read(cells: str, summary: str) -> tuple[list[dict[str, str]], dict[str, Any]]:
    with open(cells, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with open(summary, encoding="utf-8") as file:
        return rows, json.load(file)


def _dead(rows: list[dict[str, str]]) -> NDArray[np.bool_]:
    return np.array([row["dead"] == "1" for row in rows])


def _column(rows: list[dict[str, str]], name: str) -> Floats:
    values = np.array([float(row[name] or "nan") for row in rows])
    return np.where(np.isfinite(values) & ~_dead(rows), values, -np.inf)


def _kernel_way(rows: list[dict[str, str]], summary: dict[str, Any], trials: int) -> Way:
    dead = _dead(rows)
    n = summary["subset"]
    pairs = n * (n + 1) // 2
    graphs = [nasbench201.architecture(row["arch_str"]) for row, gone in zip(rows, dead, strict=True) if not gone]
    shape = (summary["image_size"], summary["image_size"], 3)
    work = np.mean([cost.entry_layers(graph, shape, pairs) for graph in graphs[:50]])
    # The held-out images, which the benchmark computes too, are no part of these scores.
    share = pairs / (pairs + n * summary["holdout"])
    seconds = summary["scores"]["alignment_gain"]["seconds_per_cell"] * share
    return Way(
        "TPE + alignment_gain",
        "tpe",
        _column(rows, "alignment_gain"),
        np.where(dead, 0.0, seconds),
        np.where(dead, 0.0, work * OPS_PER_ENTRY_LAYER),
        trials,
    )


def _with_rungs(way: Way, fewer: Way, subset: int) -> list[Way]:
    # The kernel of the whole subset holds that of its first images, so that a rung costs nothing more.
    few = replace(fewer, name=f"TPE + alignment_gain, {subset} images")
    return [few, replace(way, name=f"TPE + alignment_gain, rung of {subset} images", rung=few)]


def _ways(
    rows: list[dict[str, str]], summary: dict[str, Any], short: dict[str, str], given: argparse.Namespace
) -> list[Way]:
    dead, way = _dead(rows), _kernel_way(rows, summary, given.trials)
    flops = np.array([float(row["flops"]) for row in rows])

    def column(name: str) -> Floats:
        return _column(rows, name)

    def each(value: Floats | float) -> Floats:
        return np.where(dead, 0.0, value)

    seconds = {name: one["seconds_per_cell"] for name, one in summary["scores"].items()}
    kernel = way.seconds, way.operations
    network = {name: (each(seconds[name]), each(2 * flops * BATCH * PASSES[name])) for name in PASSES}
    multiply_adds = 3 * EPOCHS * IMAGES * flops
    trained = np.array([float(short[row["arch_str"]] or "nan") for row in rows])
    logs = ranking.log_rank_sum(column("params"), column("jacov"))
    least = [nasbench201.sizes(nasbench201.pruned(row["arch_str"]))[0] for row in rows]
    pruned = ranking.log_rank_sum(np.array(least, dtype=np.float64), column("jacov"))
    parts = (kernel, network["jacov"], network["synflow"])
    combined = np.sum([part[0] for part in parts], axis=0), np.sum([part[1] for part in parts], axis=0)
    return [
        way,
        Way("random + alignment_gain", "random", column("alignment_gain"), *kernel, given.trials),
        Way("TPE + alignment", "tpe", column("alignment"), *kernel, given.trials),
        Way("TPE + combined", "tpe", column("combined"), *combined, given.trials),
        Way("TPE + parameters + jacov", "tpe", logs, *network["jacov"], given.trials),
        Way("TPE + pruned parameters + jacov", "tpe", pruned, *network["jacov"], given.trials),
        Way("TPE + FLOPs", "tpe", column("flops"), each(0.0), each(0.0), given.trials),
        Way(
            "random + 12 epochs",
            "random",
            np.where(np.isfinite(trained) & ~dead, trained, -np.inf),
            each(multiply_adds / given.rate),
            each(2 * multiply_adds),
            given.trials,
        ),
    ]


def _searched(way: Way, edges: NDArray[np.int64], accuracy: Floats, seeds: int) -> Searches:
    found = np.empty((seeds, way.trials))
    order = np.empty((seeds, way.trials), dtype=np.int64)
    dropped = np.zeros((seeds, way.trials), dtype=bool)
    for seed in range(seeds):
        propose, tell = _sampler(way.sampler, seed)
        rng = np.random.default_rng([seed, 1])
        left = np.ones(len(edges), dtype=bool)
        best, best_value = -1, -math.inf
        at_rung: list[float] = []
        for trial in range(way.trials):
            far = np.where(left, (edges != propose(trial)).sum(axis=1), 99)
            cell = int(rng.choice(np.flatnonzero(far == far.min())))
            left[cell] = False
            value = float(way.values[cell])
            if way.rung is not None:
                first = float(way.rung.values[cell])
                dropped[seed, trial] = bool(at_rung) and first < statistics.median(at_rung)
                at_rung.append(first)
            if dropped[seed, trial]:
                tell(edges[cell], first, True)
            else:
                tell(edges[cell], value, False)
                if best < 0 or value > best_value:
                    best, best_value = cell, value
            found[seed, trial], order[seed, trial] = accuracy[best], cell
    return Searches(found, order, dropped)


def _sampler(
    name: str, seed: int
) -> tuple[Callable[[int], NDArray[np.int64]], Callable[[NDArray[np.int64], float, bool], None]]:
    """Return what proposes six ops, and what it is told: the cell in their place, its score, whether it was dropped."""
    rng = np.random.default_rng([seed, 0])
    if name == "random":
        return lambda _: rng.integers(0, len(nasbench201.OPS), 6), lambda cell, value, dropped: None
    import optuna
    from optuna.distributions import CategoricalDistribution
    from optuna.trial import TrialState, create_trial

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize")
    choices = CategoricalDistribution(tuple(range(len(nasbench201.OPS))))
    names = [f"op_{i}_{j}" for i, j in nasbench201.EDGES]
    settings = choose_sampler(name, {}, 1)

    def propose(trial: int) -> NDArray[np.int64]:
        study.sampler = make_sampler(settings, seed, trial)
        asked = study.ask({edge: choices for edge in names})
        study.tell(asked, state=TrialState.FAIL)  # what is scored may be another cell
        return np.array([asked.params[edge] for edge in names])

    def tell(cell: NDArray[np.int64], value: float, dropped: bool) -> None:
        scored = math.isfinite(value) and not dropped
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if scored else TrialState.PRUNED,
                value=value if scored else None,
                intermediate_values={1: value} if dropped and math.isfinite(value) else None,
                params={edge: int(op) for edge, op in zip(names, cell, strict=True)},
                distributions={edge: choices for edge in names},
            )
        )

    return propose, tell


def _spent(way: Way, of: Searches, unit: str) -> Floats:
    costs = getattr(way, unit)[of.cells]
    if way.rung is not None:
        costs = np.where(of.dropped, getattr(way.rung, unit)[of.cells], costs)
    return np.cumsum(costs, axis=1)


def _report(way: Way, of: Searches, unit: str, best: float) -> None:
    last = of.accuracy[:, -1]
    low, high = np.quantile(
        [np.random.default_rng(i).choice(last, len(last)).mean() for i in range(1000)], (0.025, 0.975)
    )
    spent = _spent(way, of, unit)
    mean, costs = of.accuracy.mean(axis=0), spent.mean(axis=0)
    arrived = []
    for gap in TOP:
        there = np.flatnonzero(mean >= best - gap)
        arrived.append(f"{costs[there[0]]:.3g}" if len(there) else "-")
    print(f"{way.name:40}  {last.mean():.2f} [{low:.2f}, {high:.2f}]  {', '.join(arrived):28}  in all {costs[-1]:.3g}")


def _print_first(ways: list[Way], rows: list[dict[str, str]], accuracy: Floats) -> None:
    judged = {way.name.removeprefix("TPE + ").removeprefix("random + "): way.values for way in ways if not way.rung}
    judged |= {name: _column(rows, name) for name in PASSES}
    print(f"\n{POOLS} random pools of {POOL} of these cells")
    print(f"{'ranked by':40}  put first  best of the first {FIRST}")
    for name, values in {"their accuracy": accuracy, **judged}.items():
        first, best = _first_of_pools(values, accuracy)
        print(f"{name:40}  {first:9.2f}  {best:.2f}")


def _first_of_pools(values: Floats, accuracy: Floats) -> tuple[float, float]:
    """Return the mean accuracies of what is put first, and of the best of the first few, over the same random pools."""
    rng = np.random.default_rng(0)
    found = np.empty((POOLS, 2))
    for row in found:
        pool = rng.permutation(len(values))[:POOL]
        first = accuracy[pool[np.argsort(-values[pool], kind="stable")[:FIRST]]]  # of equals the order is the draw's
        row[:] = first[0], first.max()
    return float(found[:, 0].mean()), float(found[:, 1].mean())


def _plot(ways: list[Way], curves: dict[str, Searches], accuracy: Floats, path: str) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 5.3), sharey=True, layout="constrained")
    for axis, unit in zip(axes, ("seconds", "operations"), strict=True):
        for way in ways:
            found = curves[way.name].accuracy
            spent = _spent(way, curves[way.name], unit).mean(axis=0)
            if spent[-1] <= 0:
                axis.axhline(found[:, -1].mean(), linestyle=":", color="grey", label=f"{way.name} (free)")
                continue
            mean = found.mean(axis=0)
            error = 1.96 * found.std(axis=0, ddof=1) / np.sqrt(len(found))
            (line,) = axis.plot(spent, mean, label=way.name)
            axis.fill_between(spent, mean - error, mean + error, alpha=0.2, color=line.get_color())
        axis.axhline(accuracy.max(), color="black", linewidth=0.5)
        axis.set_xscale("log")
        axis.set_xlabel(f"spent, {unit}")
        axis.grid(alpha=0.3)
    axes[0].set_ylim(np.quantile(accuracy, 0.6), accuracy.max() + 0.2)
    axes[0].set_ylabel("accuracy of the best-scored cell after 200 epochs, %")
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
