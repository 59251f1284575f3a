"""What free siblings bring on the plain space: trials a second, and the sampler's best after equal time.

    python benchmarks/siblings.py DATA [--image-size 8] [--subset 300] [--trials 300] [--seconds 60] [--seeds 10]

First one random search of `--trials` with siblings and one without. Checked in the same run: every architecture that
both have scored has the same score. Then TPE searches of `--seconds` each, with and without in turn, for every seed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from nas_cntk.report.board import Board, load_board

ROOT = Path(__file__).resolve().parent.parent
WAYS = ("--siblings", "--no-siblings")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="as --data of nas-cntk search")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--space", default="plain")
    parser.add_argument("--subset", type=int, default=300)
    parser.add_argument("--holdout", type=int, default=300)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seeds", type=int, default=10)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.trials:
            _rates(given, folder)
        if given.seeds:
            _best_after_equal_time(given, folder)


def _rates(given: argparse.Namespace, folder: str) -> None:
    scores: dict[str, dict[str, float]] = {}
    rates: dict[str, tuple[float, float]] = {}
    for way in WAYS:
        board, seconds = _search(given, folder, f"rate{way}", way, "--sampler", "random", "--trials", str(given.trials))
        assert len(board.rows) == given.trials, f"{len(board.rows)} trials instead of {given.trials}"
        scores[way] = _scores(board)
        rates[way] = given.trials / seconds, len(scores[way]) / seconds
        print(
            f"{way}: {given.trials} trials of {len(scores[way])} architectures in {seconds:.0f} s:"
            f" {rates[way][0]:.2f} trials/s, {rates[way][1]:.2f} architectures/s",
            flush=True,
        )
    both = scores[WAYS[0]].keys() & scores[WAYS[1]].keys()
    different = [key for key in both if abs(scores[WAYS[0]][key] - scores[WAYS[1]][key]) > 1.5 / given.holdout]
    assert not different, f"{len(different)} of {len(both)} architectures have two scores"
    print(f"{len(both)} architectures scored both ways, equal to one held-out image")
    trials, architectures = (rates[WAYS[0]][at] / rates[WAYS[1]][at] for at in range(2))
    print(f"ratio {trials:.1f} in trials, {architectures:.1f} in architectures")


def _best_after_equal_time(given: argparse.Namespace, folder: str) -> None:
    found = np.empty((given.seeds, 2))
    for seed in range(given.seeds):
        for at, way in enumerate(WAYS):
            board, _ = _search(
                given,
                folder,
                f"{seed}{way}",
                way,
                "--timeout",
                str(given.seconds),
                "--trials",
                "100000",
                "--seed",
                str(seed),
            )
            assert _scores(board), "nothing was scored in that time: raise --seconds"
            found[seed, at] = 100 * max(_scores(board).values())
            print(f"seed {seed} {way}: best {found[seed, at]:.2f} % of {len(_scores(board))} architectures", flush=True)
    gain = found[:, 0] - found[:, 1]
    error = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else float("nan")
    means = f"{found[:, 0].mean():.2f} % with siblings, {found[:, 1].mean():.2f} % without"
    print(
        f"best after {given.seconds:.0f} s: {means}; paired difference {gain.mean():+.2f} (standard error {error:.2f})"
        f" over {given.seeds} seeds"
    )


def _search(given: argparse.Namespace, folder: str, name: str, *options: str) -> tuple[Board, float]:
    db = str(Path(folder) / f"{name}.db")
    command = ["search", "--data", given.data, "--space", given.space, "--subset", str(given.subset)]
    command += ["--holdout", str(given.holdout), "--quiet", "--study", "s", "--db", db, *options]
    if given.image_size:
        command += ["--image-size", str(given.image_size)]
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "nas_cntk", *command], check=True, cwd=ROOT, capture_output=True)
    return load_board(db, "s"), time.perf_counter() - started


def _scores(board: Board) -> dict[str, float]:
    return {
        row.key: row.proxy_accuracy
        for row in board.rows
        if row.state == "COMPLETE" and row.key is not None and row.proxy_accuracy is not None
    }


if __name__ == "__main__":
    main()
