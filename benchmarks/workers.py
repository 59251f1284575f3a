"""Trials a second of one search by one process and by several, on the bundled digits.

    python benchmarks/workers.py [--workers 2] [--trials 60] [--space plain] [--subset 700] [--rounds 3]

Each round searches with one process and with several, in turn, with random proposals of the same seed, so that both do
the same work; medians are printed, start of the processes included. Checked in the same run: both reach the total, and
every architecture that both have scored has the same score.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nas_cntk.report.board import load_board

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--space", default="plain")
    parser.add_argument("--subset", type=int, default=700)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    seconds: dict[int, list[float]] = {1: [], given.workers: []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(given.rounds):
            scores = {}
            for workers, spent in seconds.items():
                db = str(Path(folder) / f"{turn}-{workers}.db")
                command = ["search", "--space", given.space, "--trials", str(given.trials), "--sampler", "random"]
                command += ["--subset", str(given.subset), "--holdout", str(given.subset), "--quiet"]
                command += ["--workers", str(workers), "--study", "s", "--db", db]
                started = time.perf_counter()
                subprocess.run([sys.executable, "-m", "nas_cntk", *command], check=True, cwd=ROOT, capture_output=True)
                spent.append(time.perf_counter() - started)
                rows = load_board(db, "s").rows
                assert len(rows) == given.trials, f"{len(rows)} trials instead of {given.trials}"
                scores[workers] = {row.key: row.proxy_accuracy for row in rows if row.state == "COMPLETE"}
            one, several = scores[1], scores[given.workers]
            different = [key for key in one.keys() & several.keys() if one[key] != several[key]]
            assert not different, f"{len(different)} architectures have two scores"
    rates = {workers: given.trials / statistics.median(spent) for workers, spent in seconds.items()}
    for workers, rate in rates.items():
        print(f"{workers} process{'es' if workers > 1 else '  '}: {rate:.2f} trials/s")
    print(f"ratio {rates[given.workers] / rates[1]:.2f}")


if __name__ == "__main__":
    main()
