"""Where the score `combined` is above parameters + jacov, and what its kernel brings.

    nas-cntk benchmark nasbench201 --table odd.csv --data cifar10:PATH --cells 1000 --subset 300 --holdout 50 \\
        --score combined,alignment_gain,jacov,params --csv cells.csv
    python benchmarks/where_combined_gains.py cells.csv [--among zero_cost.csv]

Spearman correlations with 95 % bootstrap intervals over cells, and the paired differences: on all cells of the CSV, and
with `--among`, a table of cells with published scores, on those that it lists and on the others; there the published
jacov is a bar too. Run it on the CSV of `--distinct` for each network once.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
from fit_combined import read
from numpy.typing import NDArray

from nas_cntk import nasbench201
from nas_cntk.benchmark import ranking
from nas_cntk.scores.combined import COMPONENTS, parts

Floats = NDArray[np.float64]
Rows = list[dict[str, str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", help="what `benchmark nasbench201 --csv` wrote")
    parser.add_argument("--among", metavar="CSV", help="a table with columns arch_str and jacov")
    given = parser.parse_args()
    rows = read(given.cells)
    _show("all", rows, None)
    if given.among:
        published = {row["arch_str"]: float(row["jacov"]) for row in read(given.among)}
        _show("listed", [row for row in rows if row["arch_str"] in published], published)
        _show("others", [row for row in rows if row["arch_str"] not in published], None)


def _show(label: str, rows: Rows, published: dict[str, float] | None) -> None:
    target = np.array([float(row["target"]) for row in rows])
    params, jacov = _column(rows, "params"), _column(rows, "jacov")
    pruned = np.array([float(_pruned(row)) for row in rows])
    scores = {
        "combined": _column(rows, "combined"),
        "combined without the kernel": np.array([_without_kernel(row) for row in rows]),
        "parameters + jacov": ranking.log_rank_sum(params, jacov),
        "pruned parameters + jacov": ranking.log_rank_sum(pruned, jacov),
        "alignment_gain": _column(rows, "alignment_gain"),
        "parameters": params,
        "pruned parameters": pruned,
        "jacov": jacov,
    }
    if published is not None:
        known = np.array([published[row["arch_str"]] for row in rows])
        scores |= {"published jacov": known, "parameters + published jacov": ranking.log_rank_sum(params, known)}
    samples = ranking.draws(len(rows), 0)
    found = {name: ranking.spearmans(values, target, samples) for name, values in scores.items()}
    print(f"{label}: {len(rows)} cells, {len({row['key'] for row in rows})} distinct")
    for name, values in scores.items():
        above = "" if name == "combined" else f"  combined is above it by {_interval(found['combined'] - found[name])}"
        print(f"  {name:30} {ranking.spearman(values, target):.3f} {_interval(found[name])}{above}")


def _pruned(row: dict[str, str]) -> int:
    return nasbench201.sizes(nasbench201.pruned(row["arch_str"]))[0]


def _column(rows: Rows, name: str) -> Floats:
    return np.array([float(row[name] or "-inf") for row in rows])


def _without_kernel(row: dict[str, str]) -> float:
    if row["dead"] == "1":
        return -math.inf
    found = parts({name: float(row[name]) for name in COMPONENTS} | {"params": float(_pruned(row))})
    return sum(part for name, part in found.items() if name != "holdout_mse")


def _interval(found: Floats) -> str:
    low, high = np.quantile(found, (0.025, 0.975))
    return f"[{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
