"""One kernel by this process and by two worker processes of a Dask cluster, in turn; then with a worker killed and one
added in mid-run.

    python benchmarks/cluster.py [--images 3000] [--size 32] [--convs 5] [--side 250] [--rounds 3]

Random images under flatten. Medians are printed; starting the cluster is left out, sending images and tiles is not.
Checked in the same run: every matrix has the same bits.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import time

import numpy as np
from works import chain

from nas_cntk import gram
from nas_cntk.cluster import Tiles, open_cluster
from nas_cntk.errors import NasCntkError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--size", type=int, default=32, help="pixels a side")
    parser.add_argument("--convs", type=int, default=5)
    parser.add_argument("--side", type=int, default=250, help="of a tile")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    arch = chain(given.convs, "flatten")
    shape = given.images, given.size, given.size, 3
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    alone, there = [], []
    with open_cluster(f"local:{given.workers}") as client:
        engine = Tiles(client, side=given.side)
        gram(arch, x[:200], engine=engine)  # imports of the workers
        for _ in range(given.rounds):
            started = time.perf_counter()
            here = np.asarray(gram(arch, x))
            alone.append(time.perf_counter() - started)
            started = time.perf_counter()
            other = np.asarray(gram(arch, x, engine=engine))
            there.append(time.perf_counter() - started)
            assert np.array_equal(here, other), "a cluster's matrix has other bits"
        first, second = statistics.median(alone), statistics.median(there)
        print(f"{given.images} x {given.images}, {given.convs} convs at {given.size}x{given.size}, flatten")
        print(f"  this process     {first:6.1f} s")
        print(f"  {given.workers} workers        {second:6.1f} s  ({100 * (second / first - 1):+.1f} %), equal bits")
        events = {0.25: lambda: os.kill(min(client.run(os.getpid).values()), signal.SIGKILL)}
        events[0.5] = lambda: client.cluster.scale(given.workers + 1)

        def meanwhile(fraction: float) -> None:
            for when in [when for when in events if fraction > when]:
                events.pop(when)()

        started = time.perf_counter()
        other = np.asarray(gram(arch, x, engine=engine, progress=meanwhile))
        assert not events and np.array_equal(here, other), "after a kill the matrix has other bits"
        print(f"  one killed at a quarter, one added at half: {time.perf_counter() - started:.1f} s, equal bits")


if __name__ == "__main__":
    try:
        main()
    except NasCntkError as error:
        sys.exit(f"error: {error}")
