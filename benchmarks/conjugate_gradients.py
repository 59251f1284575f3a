"""CNTK-V on CIFAR-10 solved by conjugate gradients on tiles and by a dense Cholesky factor: are predictions equal?

    python benchmarks/conjugate_gradients.py PATH_OF_CIFAR10 STORE [--train 10000] [--test 1000] [--cluster local:2]

The kernel is kept in STORE, where the same command finds it again. The dense solve is LAPACK's in float64, on all
cores. Of every other way these are printed: seconds; products with the kernel until the residual is so small; the
greatest difference of a prediction on the test images, and how many of them are put into another class. Seconds count
the columns of the preconditioner, and tiles are read from the disk once and then kept, unless it says otherwise.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence

import numpy as np
from machine import description
from numpy.typing import NDArray
from works import cntk_v

from nas_cntk import cluster, conjugate_gradients, data, regression, solver
from nas_cntk.conjugate_gradients import Operator
from nas_cntk.errors import NasCntkError, RegressionError
from nas_cntk.kernels.gram import gram, meter
from nas_cntk.kernels.products import Products

STEPS = (1e-2, 1e-4, 1e-6, 1e-8, 1e-10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cifar10", help="the official python batches: a folder, tar, tar.gz or tar.xz")
    parser.add_argument("store", help="a folder for the tiles; one that holds a part already is completed")
    parser.add_argument("--depth", type=int, default=3, help="the paper's depth: depth - 1 convs (default 3)")
    parser.add_argument("--train", type=int, default=10_000, help="first training images")
    parser.add_argument("--test", type=int, default=1_000, help="first test images")
    parser.add_argument("--ridge", type=float, default=0.0, help="in multiples of the mean diagonal (default 0)")
    parser.add_argument("--ranks", default="0,100,300,1000,2000", help="of the preconditioner")
    parser.add_argument("--cluster", default="local:2", help="as for nas-cntk validate")
    given = parser.parse_args()
    dataset = data.standardise(data.load(f"cifar10:{given.cifar10}"))
    x, y = dataset.x_train[: given.train].copy(), dataset.y_train[: given.train]
    x_test, y_test = dataset.x_test[: given.test].copy(), dataset.y_test[: given.test]
    classes = dataset.num_classes
    del dataset
    matrix = gram(cntk_v(given.depth), x, store=given.store, memory="2GB", progress=meter(0.0))
    cross = np.asarray(matrix.against(x_test)).astype(np.float64)
    print(f"{description()}", flush=True)
    print(f"CNTK-V of depth {given.depth}, {len(x)} training and {len(x_test)} test images, ridge {given.ridge:g}")

    started = time.perf_counter()
    wanted, jitter = dense(np.asarray(matrix), regression.targets(y, classes), given.ridge)
    truth = cross @ wanted
    accuracy = 100 * float((truth.argmax(axis=1) == y_test).mean())
    print(
        f"dense Cholesky, float64: {time.perf_counter() - started:.1f} s, accuracy {accuracy:.2f} %, jitter {jitter:g}"
    )

    def compare(name: str, alpha: NDArray[np.float64], seconds: float, note: str) -> None:
        found = cross @ alpha
        other = int((found.argmax(axis=1) != truth.argmax(axis=1)).sum())
        print(
            f"{name:44} {seconds:7.1f} s   {note}   greatest difference {np.abs(found - truth).max():.1e},"
            f" {other} of {len(truth)} in another class",
            flush=True,
        )

    started = time.perf_counter()
    refined = solver.solve(matrix, y, classes, given.ridge)
    seconds = time.perf_counter() - started
    compare("float32 factor, refined", refined.alpha, seconds, f"{refined.iterations} corrections")

    def iterate(name: str, operator: Operator, rank: int, tolerance: float) -> None:
        began = time.perf_counter()
        try:
            solution = conjugate_gradients.solve(operator, y, classes, given.ridge, rank=rank, tolerance=tolerance)
        except RegressionError as error:
            print(f"{name:44} {time.perf_counter() - began:7.1f} s   {error}", flush=True)
            return
        note = f"{reached(solution.history)}; residual {solution.residual:.1e}, jitter {solution.jitter:g}"
        compare(name, solution.alpha, time.perf_counter() - began, note)

    print(f"products with the kernel until the residual is {', '.join(f'{step:g}' for step in STEPS)}:")
    for rank in map(int, given.ranks.split(",")):
        iterate(f"rank {rank}", Products(matrix), rank, STEPS[-1])
    for tolerance in STEPS[:-1]:
        iterate(f"rank 1000, tolerance {tolerance:g}", Products(matrix), 1000, tolerance)
    iterate("rank 1000, tiles read at every product", Products(matrix, memory=0), 1000, 1e-8)
    with cluster.open_cluster(given.cluster) as client:
        cluster.Products(client, matrix).diagonal()  # imports of the workers
        iterate(f"rank 1000, {given.cluster}", cluster.Products(client, matrix), 1000, 1e-8)
    print(f"load at the end {os.getloadavg()[0]:.1f}")


def dense(k: NDArray[np.floating], b: NDArray[np.float64], ridge: float) -> tuple[NDArray[np.float64], float]:
    """Return alpha by a Cholesky factor in float64, with the jitter of `regression.fit`."""
    from scipy.linalg import lapack

    n = len(k)
    scale = float(k.diagonal().mean(dtype=np.float64))
    least = scale * (n * np.finfo(np.float64).eps + 4 * np.finfo(np.float32).eps)
    for jitter in (0.0, *regression.JITTERS):
        system = np.array(k, dtype=np.float64, order="F")
        system[np.diag_indices(n)] += (ridge + jitter) * scale
        factor, broken = lapack.dpotrf(system, lower=1, overwrite_a=1)
        if not broken and float(np.square(factor.diagonal()).min()) >= least:
            alpha, failed = lapack.dpotrs(factor, b, lower=1)
            assert not failed
            return np.ascontiguousarray(alpha), jitter
    raise RegressionError("the kernel is not positive definite")


def reached(history: Sequence[float]) -> str:
    """Return after how many products each of STEPS was reached."""
    found = [next((str(k) for k, one in enumerate(history, 1) if one <= step), "-") for step in STEPS]
    return ", ".join(found)


if __name__ == "__main__":
    try:
        main()
    except NasCntkError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted")
