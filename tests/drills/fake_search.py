"""A real search loop on a made-up score: what the drills kill, and what tests of the loop run in-process."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nas_cntk.architecture import Architecture, Builder
from nas_cntk.errors import IllegalArchitecture
from nas_cntk.records import studies
from nas_cntk.records.database import Records
from nas_cntk.records.migrations import open_records
from nas_cntk.records.studies import Study
from nas_cntk.records.trials import Finished
from nas_cntk.scoring import ArchitectureScores
from nas_cntk.search import judging
from nas_cntk.search.evaluation import Evaluation, Limits
from nas_cntk.search.loop import run
from nas_cntk.search.samplers import choose_sampler
from nas_cntk.search.storage import open_storage

SHAPE = (8, 8, 1)
SUBSET, HOLDOUT = 40, 20


def propose(trial: Any) -> Architecture:
    """A plain net whose kernel sizes depend on its depth; some proposals are illegal."""
    depth = trial.suggest_int("depth", 1, 4)
    kernels = [trial.suggest_categorical(f"kernel_{layer}", [1, 3, 5]) for layer in range(depth)]
    head = trial.suggest_categorical("head", ["flatten", "global", "none"])
    b = Builder()
    x = b.input()
    for kernel in kernels:
        x = b.relu(b.conv(x, kernel))
    if head == "none" and depth == 4:
        raise IllegalArchitecture("a net of four layers needs a head")
    b.dense(b.flatten(x) if head == "flatten" else b.global_avg_pool(x))
    return b.build()


def siblings(params: Any) -> list[dict[str, Any]]:
    """The other head, then the beginnings under both heads."""
    depths = range(params["depth"], 0, -1)
    return [{**params, "depth": depth, "head": head} for depth in depths for head in ("flatten", "global")]


def accuracy(arch: Architecture) -> float:
    """A score with structure for a sampler to find: best with depth 3 and kernels of 3."""
    kernels = [node.op.kernel for node in arch.nodes if node.op.NAME == "conv"]  # type: ignore[union-attr]
    total = 1.0 - 0.1 * abs(len(kernels) - 3) - 0.05 * sum(abs(k - 3) for k in kernels)
    return round(max(0.0, total - (0.03 if arch.nodes[-2].op.NAME == "flatten" else 0.0)) * HOLDOUT) / HOLDOUT


def scores_of(arch: Architecture, values: dict[str, float]) -> ArchitectureScores:
    """What scoring returns, with made-up values."""
    p = float(values.get("holdout_accuracy", 0.5))
    p = p if np.isfinite(p) else 0.5
    correct = np.arange(HOLDOUT) < round(p * HOLDOUT)
    return ArchitectureScores(arch.key, values, 0.1, p, 0.0, 0.0, SUBSET, HOLDOUT, 0.01, "fake", 1.0, correct)


def evaluation(delay: float = 0.0, names: tuple[str, ...] = ("holdout_accuracy",), **parts: Any) -> Evaluation:
    """An evaluation that takes `delay` seconds; `parts` replace its functions."""

    def score(
        family: Sequence[Architecture], progress: Callable[[float], None], cancelled: Callable[[], bool]
    ) -> list[ArchitectureScores]:
        deadline = time.monotonic() + delay
        while time.monotonic() < deadline:
            if cancelled():
                raise KeyboardInterrupt
            time.sleep(min(0.005, delay))
        progress(1.0)
        return [
            scores_of(arch, {"holdout_accuracy": accuracy(arch), "flops": float(arch.count_flops(SHAPE, 10))})
            for arch in family
        ]

    defaults: dict[str, Any] = {
        "propose": propose,
        "score": score,
        # The dearest tenth is beyond the limit, so that trials pruned for their cost are there too.
        "predict": lambda family: max(arch.count_flops(SHAPE, 10) for arch in family) / 2.5e4,
        "sizes": lambda arch: (arch.count_parameters(SHAPE, 10), arch.count_flops(SHAPE, 10)),
    }
    return Evaluation(**{**defaults, **parts}, names=names, subset=SUBSET, holdout=HOLDOUT)


class Silent:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.ended: list[Finished] = []

    def trial_begins(self, number: int, architecture: Architecture, predicted: float, others: int) -> None:
        pass

    def progress(self, fraction: float) -> None:
        pass

    def trial_ends(self, trial: Finished) -> None:
        self.ended.append(trial)

    def waits(self, working: int) -> None:
        pass


def make_study(records: Records, name: str, sampler: str, names: tuple[str, ...], seed: int = 0) -> Study:
    """Make a study, or return the one that is there."""
    import optuna

    storage = open_storage(records)
    directions = ["minimize" if n == "flops" else "maximize" for n in names]
    made = optuna.create_study(study_name=name, storage=storage, directions=directions, load_if_exists=True)
    if not studies.study_names(records)[name]:
        studies.insert_study(
            records,
            made._study_id,
            target=1,
            identity={"seed": seed, "score": list(names), "space": "fake"},
            config={"data": "fake", "image_shape": list(SHAPE), "max_trial_seconds": 300.0, "backend": "auto"},
            sampler=choose_sampler(sampler, {}, len(names)),
            versions={},
            space_source="",
            rate=1.0,
            rate_backend="fake",
        )
    storage.engine.dispose()
    return studies.find_study(records, name)


def search(
    db: str,
    *,
    target: int,
    sampler: str = "random",
    name: str = "drill",
    names: tuple[str, ...] = ("holdout_accuracy",),
    ends: Callable[[], str | None] = lambda: None,
    fake: Evaluation | None = None,
) -> tuple[str, list[Finished]]:
    """Run the loop to `target`; return how it ended and the trials of this run."""
    records = open_records(db, write=True)
    study = make_study(records, name, sampler, names)
    storage = open_storage(records)
    observer = Silent()
    try:
        how = run(records, storage, study, fake or evaluation(names=names), Limits(target, 300.0, ends), observer)
    finally:
        storage.engine.dispose()
        records.close()
    return how, observer.ended


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("db")
    parser.add_argument("--target", type=int, required=True)
    parser.add_argument("--sampler", required=True)
    parser.add_argument("--names", default="holdout_accuracy")
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--siblings", action="store_true")
    parser.add_argument("--batch", type=int, default=1)
    given = parser.parse_args()
    # A slow machine may be struck three times in one trial, which would rightly be given up as a killer of processes;
    # tests/search/test_loop.py proves that rule, and here every blow comes from outside.
    judging.MOST_KILLS = 10**6
    asked = tuple(given.names.split(","))
    kin = {"siblings": siblings, "most_members": 8} if given.siblings else {}
    made = evaluation(given.delay, asked, batch=given.batch, **kin)
    search(given.db, target=given.target, sampler=given.sampler, names=asked, fake=made)
