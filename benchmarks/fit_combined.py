"""The constants of the score `combined`: mean and deviation of its parts over cells of NAS-Bench-201.

    nas-cntk benchmark nasbench201 --table even.csv --data cifar10:PATH --cells 600 --subset 300 --holdout 50 \\
        --score holdout_mse,loo_mse,alignment,alignment_gain,log_marginal_likelihood,jacov,synflow,naswot,zico,params \\
        --csv cells.csv
    python benchmarks/fit_combined.py cells.csv [--among zero_cost.csv] [--unpruned]

Only cells with even `arch_index` are read, and of those the live ones are fitted; parameters are those of the pruned
cell unless `--unpruned` is given. Prints what `nas_cntk/scores/combined.py` holds, and how sums of some parts rank the
cells: by that, unpruned, the parts and the shape of the sum were chosen. Sums of log ranks, which are no scores of one
cell, stand beside for comparison. The first figure is of all cells, the second of each live network once, as
`benchmark --distinct` counts it; with `--among`, a table of cells, a third is of those cells alone.
"""

from __future__ import annotations

import argparse
import csv
import itertools

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr
from scipy.stats import rankdata, spearmanr

from nas_cntk import nasbench201
from nas_cntk.benchmark.table import Cell, distinct
from nas_cntk.scores.combined import COMPONENTS, transformed

KERNELS = ("holdout_mse", "loo_mse", "alignment", "alignment_gain", "log_marginal_likelihood")
OTHERS = (*KERNELS, "naswot", "zico")
SHOWN = 5

Group = tuple[NDArray[np.intp], NDArray[np.float64]]  # places of rows, and their targets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", help="what `benchmark nasbench201 --csv` wrote")
    parser.add_argument("--among", metavar="CSV", help="a table with a column arch_str")
    parser.add_argument("--unpruned", action="store_true", help="count the parameters of edges that nothing reads")
    given = parser.parse_args()
    rows = [row for row in read(given.cells) if int(row["arch_index"]) % 2 == 0]
    for row in rows if not given.unpruned else ():
        row["params"] = str(nasbench201.sizes(nasbench201.pruned(row["arch_str"]))[0])
    live = np.array([row["dead"] == "0" for row in rows])
    target = np.array([float(row["target"]) for row in rows])
    cells = [Cell(row["arch_str"], float(row["target"]), str(at)) for at, row in enumerate(rows) if row["dead"] == "0"]
    once = distinct(cells, {row["arch_str"]: row["key"] for row in rows})
    groups: dict[str, Group] = {
        "all": (np.arange(len(rows)), target),
        "once": (np.array([int(cell.index) for cell in once]), np.array([cell.target for cell in once])),
    }
    if given.among:
        listed = {row["arch_str"] for row in read(given.among)}
        places = np.array([at for at, row in enumerate(rows) if row["arch_str"] in listed])
        groups["listed"] = places, target[places]
    print(f"{len(rows)} even cells, {live.sum()} live, {len(once)} distinct")
    z, logs, ranks = {}, {}, {}
    for name in (name for name in dict.fromkeys((*COMPONENTS, *OTHERS)) if name in rows[0]):
        values = np.array([transformed(name, float(row[name] or "nan")) for row in rows])
        known = values[live & np.isfinite(values)]
        print(f'    "{name}": ({known.mean():.4g}, {known.std():.3g}),')
        values = (values - known.mean()) / known.std()
        bad = ~live | np.isnan(values)
        z[name] = np.where(bad, -1e9, values)
        logs[name] = np.where(bad, -1e9, log_ndtr(values))
        ranks[name] = np.log(rankdata(z[name]))
    mixed = {name: z[name] if name in KERNELS else logs[name] for name in z}
    shapes = {"z": z, "log Phi(z)": logs, "z of kernels, log Phi(z) of others": mixed, "log rank": ranks}
    for label, parts in shapes.items():
        print(f"\nsums of {label}: Spearman of {', '.join(groups)}")
        for count in (1, 2, 3, 4, 5):
            found = [(_spearmans(parts, names, groups), names) for names in itertools.combinations(parts, count)]
            for figures, names in sorted(found, key=lambda one: -sum(one[0]))[:SHOWN]:
                print("  ".join(f"{figure:.3f}" for figure in figures), " ", " + ".join(names))


def read(path: str) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _spearmans(
    parts: dict[str, NDArray[np.float64]],
    names: tuple[str, ...],
    groups: dict[str, Group],
) -> list[float]:
    total = np.sum([parts[name] for name in names], axis=0)
    return [float(spearmanr(total[places], target)[0]) for places, target in groups.values()]


if __name__ == "__main__":
    main()
