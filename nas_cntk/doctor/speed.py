"""Speed: are kernels right here, how fast are they, and what would the default search take."""

from __future__ import annotations

import numpy as np

from nas_cntk.architecture import Architecture, Builder
from nas_cntk.doctor.check import OK, PROBLEM, WARNING, Check
from nas_cntk.report import text

TOLERANCE = 5e-5  # of a float32 kernel: greatest error over greatest entry, as in benchmarks/
SECONDS = {"cpu": 0.4, "cuda": 2.0}  # of a timing; a GPU needs a while to wake
SLOW = 2e8  # entry-layers/s on the cpu, below which something is wrong: one core with AVX2 does twice that


def kernels(backend: str) -> Check:
    """Return whether a backend agrees with the plain float64 reference on three small nets."""
    from nas_cntk.kernels.exact import kernel

    images = np.random.default_rng(0).standard_normal((6, 6, 6, 2)).astype(np.float32)
    worst = 0.0
    for arch in _nets():
        right = kernel(arch, images, backend="reference", dtype="float64")
        found = kernel(arch, images, backend=backend)
        worst = max(worst, float(np.abs(found - right).max() / np.abs(right).max()))
    name = "kernels" if backend == "cpu" else f"kernels ({backend})"
    said = f"backend {backend} differs from the reference by {worst:.0e} of the greatest entry"
    if not worst <= TOLERANCE:
        remedy = "do not trust scores of this backend: use --backend reference, and report what this prints"
        return Check(name, PROBLEM, f"{said}, allowed are {TOLERANCE:.0e}", remedy)
    return Check(name, OK, said)


def rate(backend: str) -> tuple[Check, float]:
    """Return the measured rate of a backend, as a check and in entry-layers/s."""
    from nas_cntk.kernels import cost

    measured = cost.measure_rate(backend, SECONDS[backend])
    name = "speed" if backend == "cpu" else f"speed ({backend})"
    found = f"{measured:.2g} entry-layers/s on backend {backend}"
    if measured < SLOW:
        remedy = "close what else keeps the processor busy, or use a smaller --subset, --holdout or --image-size"
        return Check(name, WARNING, f"{found}, which is slow", remedy), measured
    return Check(name, OK, found), measured


def default_search(measured: float, backend: str) -> Check:
    """Return what `nas-cntk search` without options would take, at a measured rate."""
    from nas_cntk.search.bench import forecast, set_up
    from nas_cntk.search.settings import DEFAULT_TRIAL_SECONDS, DEFAULT_TRIALS, Manner, Problem
    from nas_cntk.search.spaces import load_space

    problem = Problem()
    bench = set_up(problem, backend)
    evaluation = bench.evaluation(load_space(problem.space), measured, Manner())
    seen = forecast(evaluation, problem.seed, DEFAULT_TRIAL_SECONDS, DEFAULT_TRIALS)
    least, most, total = (text.duration(seconds) for seconds in (seen.least, seen.most, seen.total(DEFAULT_TRIALS)))
    found = (
        f"`nas-cntk search` ({problem.data}, space {problem.space}, {DEFAULT_TRIALS} trials) takes about {total}:"
        f" {least} to {most} a trial"
    )
    return Check("search", OK, found)


def _nets() -> tuple[Architecture, ...]:
    """A plain net, one with correlated branches and a stride, one with a pooling; every kind of head."""
    b = Builder()
    x = b.relu(b.conv(b.relu(b.conv(b.input(), 3)), 3))
    b.dense(b.global_avg_pool(x))
    plain = b.build()
    b = Builder()
    x = b.conv(b.input(), 3)
    x = b.add(x, b.conv(b.relu(x), 3), b.avg_pool(x, 3, 1, "same"))
    b.dense(b.flatten(b.relu(b.conv(b.relu(x), 3, stride=2))))
    branched = b.build()
    b = Builder()
    x = b.avg_pool(b.relu(b.conv(b.input(), 5)), 2, 2)
    b.dense(b.flatten(b.avg_pool(b.relu(b.conv(x, 1)), 2, 1)))
    return plain, branched, b.build()
