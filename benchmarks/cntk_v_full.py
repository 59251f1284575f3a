"""CNTK-V of depth 3 on the whole of CIFAR-10: kernel on disk, float32 solve refined to float64, test accuracy.

    python benchmarks/cntk_v_full.py PATH_OF_CIFAR10 STORE

Interrupted or killed, the same command goes on where it was. Needs about 7.5 GB on the disk and 13 GB of memory. The
paper has 64.47 %.

Source: Arora et al., "On Exact Computation with an Infinitely Wide Neural Net" (2019), Table 1.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import numpy as np
from works import cntk_v

from nas_cntk import data, regression
from nas_cntk.errors import NasCntkError
from nas_cntk.kernels import cost
from nas_cntk.kernels.gram import gram, meter
from nas_cntk.solver import solve

PAPER = {3: 64.47, 4: 65.52, 6: 66.03, 11: 65.90, 21: 64.09}  # %, by depth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cifar10", help="the official python batches: a folder, tar, tar.gz or tar.xz")
    parser.add_argument("store", help="a folder for the tiles; one that holds a part already is completed")
    parser.add_argument("--depth", type=int, default=3, help="the paper's depth: depth - 1 convs (default 3)")
    parser.add_argument("--train", type=int, default=50_000, help="first training images")
    parser.add_argument("--test", type=int, default=10_000, help="first test images")
    parser.add_argument("--ridge", type=float, default=0.0, help="in multiples of the mean diagonal (default 0)")
    parser.add_argument("--memory", default="2GB", help="of the kernel's computation (default 2GB)")
    parser.add_argument("--plain", action="store_true", help="pixels in [0, 1] instead of standardised per channel")
    given = parser.parse_args()
    dataset = data.load(f"cifar10:{given.cifar10}")
    classes = dataset.num_classes
    if not given.plain:
        dataset = data.standardise(dataset)
    # Copies, so that the whole data set is not kept for a part of it.
    x, y = dataset.x_train[: given.train].copy(), dataset.y_train[: given.train]
    x_test, y_test = dataset.x_test[: given.test].copy(), dataset.y_test[: given.test]
    a_pair = cost.entry_layers(cntk_v(given.depth), dataset.image_shape, 1)
    del dataset

    clock = _Clock()
    pairs = len(x) * (len(x) + 1) / 2
    matrix = gram(cntk_v(given.depth), x, store=given.store, memory=given.memory, progress=meter(a_pair * pairs))
    clock.say(f"kernel of {len(x)} training images")
    cross = matrix.against(x_test, progress=meter(a_pair * len(x) * len(x_test)))
    clock.say(f"kernel of {len(x_test)} test images with them")
    print(f"solving for {len(x)} images, {4e-9 * len(x) ** 2:.1f} GB", flush=True)
    found = solve(matrix, y, classes, given.ridge, progress=_percent)
    clock.say(
        f"{found.method}: {found.iterations} iterations, residual {found.residual:.1e}, jitter {found.jitter:g},"
        f" ridge {found.ridge:g}, shift of the factor {found.shift:g}"
    )
    right = 0
    for start, rows in cross.row_blocks(1000):
        predictions = rows.astype(np.float64) @ found.alpha
        right += int((predictions.argmax(axis=1) == y_test[start : start + len(rows)]).sum())
    accuracy = right / len(y_test)
    clock.say("prediction")
    error = 100 * regression.standard_error(accuracy, len(y_test))
    paper = f"; the paper has {PAPER[given.depth]} % with all images" if given.depth in PAPER else ""
    print(f"test accuracy {100 * accuracy:.2f} % (standard error {error:.2f}){paper}")
    print(f"{clock.total():.0f} s in all in this call, peak memory {_peak():.2f} GB")


class _Clock:
    def __init__(self) -> None:
        self.began = self.last = time.perf_counter()

    def say(self, what: str) -> None:
        now = time.perf_counter()
        print(f"{now - self.last:8.1f} s  {what}  (peak memory so far {_peak():.2f} GB)", flush=True)
        self.last = now

    def total(self) -> float:
        return time.perf_counter() - self.began


def _percent(fraction: float) -> None:
    sys.stderr.write(f"\r{100 * fraction:5.1f} %" + ("\n" if fraction >= 1 else ""))
    sys.stderr.flush()


def _peak() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


if __name__ == "__main__":
    try:
        main()
    except NasCntkError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from here")
