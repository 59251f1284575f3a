"""The kernel of an architecture on the full training set: tiles on disk, one solve, the test set."""

from __future__ import annotations

import shutil
import time

import numpy as np

from nas_cntk import regression
from nas_cntk.errors import KernelError
from nas_cntk.kernels.filling import Single
from nas_cntk.kernels.gram import Cross, Gram, gram
from nas_cntk.records.validations import Validation
from nas_cntk.scoring import SCORES
from nas_cntk.solver import solve
from nas_cntk.validate.artifacts import gram_path
from nas_cntk.validate.images import Images
from nas_cntk.validate.job import Bench, Job

SOLVE_SHARE = 0.05  # of the progress


def kernel_kind(bench: Bench, trainable: bool) -> Single:
    """Return which kernel is validated: that of the study's first score with one, the ntk if there is none."""
    names = bench.study.identity.get("score", [])
    assert isinstance(names, list)
    needed = [kernel for name in names if name in SCORES for kernel in SCORES[name].kernels]
    kind: Single = next(iter(needed), "ntk")
    return kind if trainable else "nngp"


def run(job: Job, test_images: int) -> Validation:
    """Compute the Gram matrix, solve the regression, test, and return what is to be recorded.

    Raises:
        KernelError: if the disk is full or a kernel too large for its dtype.
        RegressionError: if the kernel is far from positive definite, or memory too small for it.
        KeyboardInterrupt: if cancelled; finished tiles stay.
    """
    bench, candidate = job.bench, job.candidate
    started = time.monotonic()
    x, y = bench.images.train(job.train_images)
    x_test, y_test = bench.images.test(test_images)
    kind = kernel_kind(bench, candidate.architecture.trainable)
    n, m = len(x), len(x_test)
    pairs = n * (n + 1) / 2
    of_gram = (1 - SOLVE_SHARE) * pairs / (pairs + n * m)
    matrix, done_before = _gram(job, x, kind, of_gram)
    cross: Cross = matrix.against(
        x_test,
        progress=lambda fraction: job.progress(of_gram + fraction * (1 - SOLVE_SHARE - of_gram)),
        cancelled=job.cancelled,
    )
    classes = bench.images.dataset.num_classes
    if bench.dtype == "float64":
        fitted = regression.fit(np.asarray(matrix), y, classes, candidate.ridge)
        alpha, solved = fitted.alpha, {"jitter": fitted.jitter, "method": "cholesky"}
    else:
        solution = solve(
            matrix,
            y,
            classes,
            candidate.ridge,
            engine=bench.engine,
            progress=lambda fraction: job.progress(1 - SOLVE_SHARE * (1 - fraction)),
            cancelled=job.cancelled,
        )
        alpha = solution.alpha
        solved = {
            "jitter": solution.jitter,
            "method": solution.method,
            "residual": solution.residual,
            "iterations": solution.iterations,
            "shift": solution.shift,
        }
    correct = 0
    for top in range(0, m, regression.PREDICTED_AT_A_TIME):
        rows = np.asarray(cross[top : top + regression.PREDICTED_AT_A_TIME]).astype(np.float64)
        correct += int(((rows @ alpha).argmax(axis=1) == y_test[top : top + len(rows)]).sum())
    accuracy = correct / m
    job.progress(1.0)
    return job.result(
        "kernel",
        None,
        accuracy,
        m,
        time.monotonic() - started,
        {
            "kernel": kind,
            "ridge": candidate.ridge,
            **solved,
            "backend": bench.backend,
            "dtype": bench.dtype,
            "done_before": done_before,  # the fraction of the matrix that an earlier run had computed
        },
    )


def drop_tiles(bench: Bench, key: str) -> None:
    """Remove the tiles of a kernel."""
    shutil.rmtree(gram_path(bench.db, bench.study.name, key), ignore_errors=True)


def _gram(job: Job, x: Images, kind: Single, share: float) -> tuple[Gram, float]:
    """Return the Gram matrix of the training images, and the fraction of it that an earlier run had computed."""
    bench, candidate = job.bench, job.candidate
    first: list[float] = []

    def show(fraction: float) -> None:
        first.append(fraction) if not first else None
        job.progress(fraction * share)

    def compute() -> Gram:
        return gram(
            candidate.architecture,
            x,
            store=gram_path(bench.db, bench.study.name, candidate.key),
            kind=kind,
            backend=bench.backend,
            dtype=bench.dtype,
            devices=bench.kernel_gpus,
            engine=bench.engine,
            progress=show,
            cancelled=job.cancelled,
        )

    try:
        return compute(), (first or [0.0])[0]
    except KernelError as error:
        if "was made for" not in str(error) and "damaged" not in str(error):
            raise
    # Tiles of another machine, backend or data, or a torn store: ours to drop, and computed again.
    drop_tiles(bench, candidate.key)
    first.clear()
    return compute(), 0.0
