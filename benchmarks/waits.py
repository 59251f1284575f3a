"""What a user waits for besides kernels, and how right the forecast of `validate` is.

    python benchmarks/waits.py [--runs 9]

Medians of `--runs`. Processor seconds of a help page and of a completion, which must import nothing heavy; seconds of
reading and naming an architecture about as large as is legal; what `validate` predicts for a kernel over what it takes.
Checked in the same run: every command exits with 0, the architecture is read back equal, the kernel is the reference's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from nas_cntk import Architecture, Builder, kernel
from nas_cntk.validate.forecast import _seconds_a_pair


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        _tell("nas-cntk --help, processor", lambda: _command(folder, "--help"), runs)
        for words in ("search --score h", "search --data f", "search --sampler t", "show --study d"):
            _tell(f"completion of '{words}', processor", lambda words=words: _completion(folder, words), runs)
    arch = _chain(4995)
    text = arch.to_json()
    assert Architecture.from_json(text) == arch
    _tell(
        f"architecture of {len(arch.nodes):,} nodes, read", lambda: _timed(lambda: Architecture.from_json(text)), runs
    )
    _tell("the same, its key", lambda: _timed(lambda: Architecture.from_json(text).key), runs)
    ratios = [_forecast() for _ in range(runs)]
    print(f"kernel of 512 x 512 images, predicted over taken: {statistics.median(ratios):.2f}", end="")
    print(f" ({min(ratios):.2f} to {max(ratios):.2f})")


def _tell(what: str, seconds: Callable[[], float], runs: int) -> None:
    times = [seconds() for _ in range(runs)]
    print(f"{what}: {statistics.median(times):.3f} s ({min(times):.3f} to {max(times):.3f})", flush=True)


def _command(folder: str, *arguments: str, **environment: str) -> float:
    before = os.times()
    command = [sys.executable, "-m", "nas_cntk", *arguments]
    subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def _completion(folder: str, words: str) -> float:
    asked = {"_NAS_CNTK_COMPLETE": "complete_bash", "COMP_WORDS": f"nas-cntk {words}", "COMP_CWORD": "3"}
    return _command(folder, **asked)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _chain(layers: int, global_pool: bool = False) -> Architecture:
    b = Builder()
    x = b.conv(b.input(), 3)
    for _ in range(layers):
        x = b.conv(b.relu(x), 3)
    b.dense(b.global_avg_pool(b.relu(x)) if global_pool else b.flatten(b.relu(x)))
    return b.build()


def _forecast() -> float:
    arch = _chain(2, global_pool=True)
    images = np.random.default_rng(0).standard_normal((1024, 6, 6, 1)).astype(np.float32)
    exact = kernel(arch, images[:4], images[4:8], backend="reference")
    assert np.abs(kernel(arch, images[:4], images[4:8]) - exact).max() < 1e-5 * np.abs(exact).max()
    where: Any = SimpleNamespace(
        images=SimpleNamespace(dataset=SimpleNamespace(x_train=images)),
        backend="cpu",
        dtype="float32",
        kernel_gpus=None,
    )
    candidate: Any = SimpleNamespace(architecture=arch)
    predicted = _seconds_a_pair(where, candidate, "ntk") * 512 * 512
    return predicted / _timed(lambda: kernel(arch, images[:512], images[512:]))


if __name__ == "__main__":
    main()
