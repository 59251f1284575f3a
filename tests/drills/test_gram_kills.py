"""kill -9 while a Gram matrix is computed, five times at random moments: the end is that of an undisturbed run."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nas_cntk import Builder
from nas_cntk.kernels.gram import gram

PROGRAM = textwrap.dedent("""
    import sys
    import time
    import numpy as np
    from nas_cntk import Builder
    from nas_cntk.kernels import budget
    from nas_cntk.kernels.gram import gram

    n, side, store = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    budget.SIDES = (side, side)
    b = Builder()
    x = b.input()
    for _ in range(3):
        x = b.relu(b.conv(x, 3))
    b.dense(b.flatten(x))
    images = np.random.default_rng(0).standard_normal((n, 4, 4, 3)).astype(np.float32)

    def show(fraction):
        print(fraction, flush=True)
        time.sleep(0.03)  # so that no machine is done before the blow

    try:
        gram(b.build(), images, store=store, progress=show)
    except KeyboardInterrupt:
        sys.exit(130)
""")


def start(n: int, side: int, store: Path) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", PROGRAM, str(n), str(side), str(store)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def first_line(process: subprocess.Popen[str]) -> float:
    assert process.stdout is not None
    return float(process.stdout.readline() or "1")


def here(n: int, store: Path | None) -> bytes:
    """The same matrix, computed or read in this process."""
    b = Builder()
    x = b.input()
    for _ in range(3):
        x = b.relu(b.conv(x, 3))
    b.dense(b.flatten(x))
    images = np.random.default_rng(0).standard_normal((n, 4, 4, 3)).astype(np.float32)
    return np.asarray(gram(b.build(), images, store=store)).tobytes()


def test_a_killed_matrix_is_resumed_bit_by_bit(
    tmp_path: Path, figure: Callable[[str], None], times: Callable[[int, int], int]
) -> None:
    n, side, blows = times(600, 4000), times(64, 256), times(3, 8)
    quiet = here(n, None)
    rng = random.Random(n)
    begun: list[float] = []
    kills = 0
    for _ in range(blows):
        process = start(n, side, tmp_path / "store")
        begun.append(first_line(process))
        time.sleep(rng.uniform(0.0, 0.5))
        process.kill()
        kills += process.wait() == -signal.SIGKILL
        assert process.stdout is not None
        process.stdout.close()
    assert kills >= blows // 2 + 1, "the matrix was finished too soon for the drill to mean anything"
    assert begun == sorted(begun) and begun[-1] > 0, "a finished tile was lost"
    process = start(n, side, tmp_path / "store")
    process.communicate()
    assert process.returncode == 0
    again = start(n, side, tmp_path / "store")
    assert first_line(again) == 1, "the finished matrix was not complete"
    assert again.wait() == 0
    assert again.stdout is not None
    again.stdout.close()
    assert here(n, tmp_path / "store") == quiet
    assert not list((tmp_path / "store").rglob("*.partial"))
    figure(f"matrix of {n} x {n}: {kills} x kill -9, the same bits as undisturbed")


def test_ctrl_c_ends_it_before_it_is_done(tmp_path: Path, figure: Callable[[str], None]) -> None:
    process = start(6000, 1024, tmp_path / "store")
    first_line(process)
    time.sleep(0.3)
    pressed = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    figure(f"Ctrl-C in a matrix of 6,000 x 6,000: ended after {time.monotonic() - pressed:.1f} s")
