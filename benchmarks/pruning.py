"""What dropping candidates at rungs saves, and how often it drops the best: by simulation on recorded scores.

    nas-cntk search --sampler random --trials 40 --prune-level 1e-300 --study full    # computes every rung, drops none
    python benchmarks/pruning.py DATABASE STUDY

Candidates of the study come in random orders, 2,000 of them; each is compared with the best so far as a search does.
Cost is counted in pairs of images. The best is whatever has the greatest score on the whole subset; ties are all best.
"""

from __future__ import annotations

import argparse

import numpy as np

from nas_cntk.records import studies
from nas_cntk.records.migrations import open_records
from nas_cntk.records.trials import find_score, finished_trials
from nas_cntk.search import rungs

LEVELS = (0.001, 0.003, 0.01, 0.03, 0.1)
ORDERS = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("db")
    parser.add_argument("study")
    given = parser.parse_args()
    records = open_records(given.db, write=False)
    study = studies.find_study(records, given.study)
    finished = [t for t in finished_trials(records, study.study_id) if t.score and t.verdict.outcome == "COMPLETE"]
    keys = list(dict.fromkeys(t.verdict.key for t in finished if t.verdict.key))
    full = max(t.score.subset for t in finished if t.score)
    sizes = [full // divisor for divisor in (8, 4, 2, 1)]
    scores = [[find_score(records, study.study_id, key, size) for size in sizes] for key in keys]
    records.close()
    if any(score is None for row in scores for score in row):
        raise SystemExit("not every rung is recorded; search with --prune-level 1e-300")
    holdout = scores[0][0].holdout
    right = np.array(
        [[np.unpackbits(np.frombuffer(s.correct, np.uint8), count=holdout) for s in row] for row in scores], dtype=bool
    )  # shape: (candidates, rungs, images)
    final = right[:, -1].sum(axis=1)
    pairs = np.array([size * (size + 1) / 2 + size * holdout for size in sizes])
    p = np.ones((len(keys), len(keys), len(sizes)))  # of a candidate (first) against a best (second) at a rung
    for rung, size in enumerate(sizes[:-1]):
        if size >= full // rungs.LEAST_DIVISOR:
            for candidate in range(len(keys)):
                for best in range(len(keys)):
                    p[candidate, best, rung] = rungs.p_value(right[best, rung], right[candidate, rung])
    print(f"{len(keys)} architectures, rungs {sizes}, {holdout} held-out images, scores {final.min()} to {final.max()}")
    print("level   cost saved   candidates dropped   best dropped   points lost at the end")
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(keys)) for _ in range(ORDERS)]
    for level in LEVELS:
        cost = dropped = 0.0
        lost = []
        for order in orders:
            best = order[0]
            spent = pairs[-1]
            for candidate in order[1:]:
                rung = next((r for r in range(len(sizes)) if p[candidate, best, r] < level), len(sizes) - 1)
                spent += pairs[rung]
                if rung < len(sizes) - 1:
                    dropped += 1
                elif final[candidate] > final[best]:
                    best = candidate
            cost += spent / (pairs[-1] * len(keys))
            lost.append(100 * (final.max() - final[best]) / holdout)
        saved, share = 1 - cost / ORDERS, dropped / ORDERS / (len(keys) - 1)
        print(f"{level:<7g} {saved:10.1%} {share:20.1%} {np.mean(np.array(lost) > 0):14.1%} {np.mean(lost):24.3f}")


if __name__ == "__main__":
    main()
