"""float32 against float64 on real CIFAR-10 images: kernel entries, and predictions that change.

    python benchmarks/precision.py PATH_OF_CIFAR10

Depth 21: flatten at 32x32 with 2,000 training images, global pooling at 16x16 with 1,000, ntk and nngp, and as many
test images (fewer with `--test`). Global pooling of 20 convs takes 1.3e6 entry-layers a pair at 16x16 (twice, and
float64 at half the speed): what it will take is predicted first, and `--most-seconds` takes fewer images if that is too
long.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import numpy as np
from works import chain

from nas_cntk import Architecture, data, kernel, regression
from nas_cntk.errors import NasCntkError, RegressionError
from nas_cntk.kernels import cost

FLOAT64_COST = 2.5  # of a float64 entry-layer against a float32 one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cifar10", help="the official python batches: a folder, tar, tar.gz or tar.xz")
    parser.add_argument("--depth", type=int, default=21, help="the paper's depth: depth - 1 convs (default 21)")
    parser.add_argument("--flatten", type=int, default=2000, metavar="N", help="training images under flatten")
    parser.add_argument("--pooled", type=int, default=1000, metavar="N", help="training images under global pooling")
    parser.add_argument("--test", type=int, metavar="M", help="test images (default as many as training images)")
    parser.add_argument("--most-seconds", type=float, default=1200, help="of each part (default 1200)")
    given = parser.parse_args()
    rate = cost.measure_rate()
    print(f"rate {rate:.2e} entry-layers/s in float32")
    for head, size, images in (("flatten", 32, given.flatten), ("global", 16, given.pooled)):
        dataset = data.standardise(data.load(f"cifar10:{given.cifar10}", image_size=size))
        arch = chain(given.depth - 1, head)
        n = _affordable(arch, dataset.image_shape, images, given.most_seconds * rate)
        if n < images:
            print(f"{head} at {size}x{size}: {n} images instead of {images}, to stay below {given.most_seconds:.0f} s")
        _compare(f"{head} at {size}x{size}, depth {given.depth}", arch, dataset, n, given.test or n)


def _affordable(arch: Architecture, shape: tuple[int, int, int], images: int, most: float) -> int:
    a_pair = cost.entry_layers(arch, shape, 1)
    n = images
    while n > 10 and a_pair * 1.5 * n * n * (1 + FLOAT64_COST) > most:
        n = int(n * 0.9)
    return n


def _compare(title: str, arch: Architecture, dataset: data.Dataset, n: int, n_test: int) -> None:
    x, y = dataset.x_train[:n], dataset.y_train[:n]
    x_test, y_test = dataset.x_test[:n_test], dataset.y_test[:n_test]
    print(f"{title}, {n} training and {len(x_test)} test images")
    found: dict[str, Any] = {}
    for dtype in ("float32", "float64"):
        started = time.perf_counter()
        found[dtype] = kernel(arch, x, kind="both", dtype=dtype), kernel(arch, x_test, x, kind="both", dtype=dtype)
        print(f"  {dtype}: {time.perf_counter() - started:.1f} s", flush=True)
    print("  kernel    greatest error   root mean square   least eigenvalue   predictions changed   accuracy 32, 64")
    for index, kind in enumerate(("nngp", "ntk")):
        (single, single_test), (double, double_test) = (
            (found[dtype][0][index], found[dtype][1][index]) for dtype in ("float32", "float64")
        )
        scale = np.abs(double).max()
        off = np.concatenate([(single - double).ravel(), (single_test - double_test).ravel()]) / scale
        least = float(np.linalg.eigvalsh(double)[0] / np.mean(np.diagonal(double)))
        try:
            predictions = [
                regression.predict(regression.fit(k, y, dataset.num_classes), test)
                for k, test in ((single, single_test), (double, double_test))
            ]
        except RegressionError as error:
            print(f"  {kind:6} {np.abs(off).max():17.1e}   no regression: {error}")
            continue
        classes = [one.argmax(axis=1) for one in predictions]
        accuracy = ", ".join(f"{100 * np.mean(one == y_test):.2f} %" for one in classes)
        changed = int((classes[0] != classes[1]).sum())
        print(
            f"  {kind:6} {np.abs(off).max():17.1e} {np.sqrt(np.mean(off**2)):18.1e} {least:18.1e}"
            f" {changed:12d} of {len(y_test)}   {accuracy}"
        )


if __name__ == "__main__":
    try:
        main()
    except NasCntkError as error:
        sys.exit(f"error: {error}")
