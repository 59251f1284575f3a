"""The constants of the score `combined`: mean and deviation of its parts over cells of NAS-Bench-201.

    nas-cntk benchmark nasbench201 --table cifar10.csv --data cifar10:PATH --score combined --csv cells.csv
    python benchmarks/fit_combined.py cells.csv

Only cells with even `arch_index` are read, and of those the live ones. Prints what `nas_cntk/scores/combined.py`
holds, and how sums of some parts rank those cells: by that the parts were chosen.
"""

from __future__ import annotations

import argparse
import csv
import itertools

import numpy as np
from scipy.stats import spearmanr

from nas_cntk.scores.combined import COMPONENTS, transformed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", help="what `benchmark nasbench201 --csv` wrote")
    with open(parser.parse_args().cells, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if int(row["arch_index"]) % 2 == 0]
    live = [row for row in rows if row["dead"] == "0"]
    target = np.array([float(row["target"]) for row in rows])
    print(f"{len(rows)} even cells, {len(live)} live, {len({row['key'] for row in live})} distinct")
    standard = {}
    for name in dict.fromkeys((*COMPONENTS, "alignment", "naswot")):
        if name not in rows[0]:
            continue
        values = np.array([transformed(name, float(row[name] or "nan")) for row in rows])
        known = values[np.isfinite(values)]
        print(f'    "{name}": ({known.mean():.4g}, {known.std():.3g}),')
        standard[name] = np.where(np.isfinite(values), (values - known.mean()) / known.std(), -1e9)
    for count in (1, 2, 3, 4):
        for parts in itertools.combinations(standard, count):
            found = spearmanr(sum(standard[name] for name in parts), target)[0]
            print(f"{found:.3f}  {' + '.join(parts)}")


if __name__ == "__main__":
    main()
