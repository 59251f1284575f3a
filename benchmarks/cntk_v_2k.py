"""CNTK-V-2K as in the paper's Table 1: first 2,000 training images of CIFAR-10, all test images, five depths at once.

    python benchmarks/cntk_v_2k.py PATH_OF_CIFAR10

Source: Arora et al., "On Exact Computation with an Infinitely Wide Neural Net" (2019), Table 1.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from works import PAPER_DEPTHS, cntk_v

from nas_cntk import data, regression
from nas_cntk.kernels import cost
from nas_cntk.kernels.gram import gram_family, meter

PAPER = (40.94, 42.54, 43.43, 43.42, 42.53)  # %, by depth
ALLOWED = 0.3  # points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cifar10", help="the official python batches: a folder, tar, tar.gz or tar.xz")
    parser.add_argument("--train", type=int, default=2000, help="first training images (default 2000)")
    parser.add_argument("--test", type=int, default=10_000, help="first test images (default 10000)")
    parser.add_argument("--plain", action="store_true", help="pixels in [0, 1] instead of standardised per channel")
    given = parser.parse_args()
    dataset = data.load(f"cifar10:{given.cifar10}")
    x, x_test = dataset.x_train, dataset.x_test
    if not given.plain:
        standard = data.standardise(dataset)
        x, x_test = standard.x_train, standard.x_test
    x, y = x[: given.train], dataset.y_train[: given.train]
    x_test, y_test = x_test[: given.test], dataset.y_test[: given.test]
    archs = [cntk_v(depth) for depth in PAPER_DEPTHS]

    started = time.perf_counter()
    a_pair = cost.entry_layers(archs, dataset.image_shape, 1)
    family = gram_family(archs, x, progress=meter(a_pair * len(x) * (len(x) + 1) / 2))
    crosses = family.against(x_test, progress=meter(a_pair * len(x) * len(x_test)))
    kernels = time.perf_counter() - started
    print(f"first {len(x)} training, {len(x_test)} test images, {'[0, 1]' if given.plain else 'standardised'}")
    print("depth   accuracy    paper   difference   jitter")
    far = 0
    for depth, paper, gram, cross in zip(PAPER_DEPTHS, PAPER, family, crosses, strict=True):
        fitted = regression.fit(np.asarray(gram), y, dataset.num_classes)
        accuracy = 100 * regression.holdout_scores(fitted, np.asarray(cross), y_test).accuracy
        far += abs(accuracy - paper) > ALLOWED
        print(f"{depth:5d} {accuracy:8.2f} % {paper:8.2f} {accuracy - paper:+10.2f}     {fitted.jitter:g}")
    print(f"{time.perf_counter() - started:.1f} s in all, of which {kernels:.1f} s for the kernels")
    if far and len(x) == 2000 and len(x_test) == 10_000:
        print(
            f"{far} of {len(PAPER)} differ by more than {ALLOWED} points;"
            f" try {'without ' if given.plain else ''}--plain"
        )


if __name__ == "__main__":
    main()
