"""The examination: every check in order, each shown as soon as it is made."""

from __future__ import annotations

from collections.abc import Iterator

from nas_cntk.doctor import gpu, machine, software, speed, storage
from nas_cntk.doctor.check import OK, PROBLEM, Check, guarded
from nas_cntk.records.database import locate


def examine(db: str) -> Iterator[Check]:
    """Yield every check; the database is `db`. Takes a few seconds, and writes nothing that stays.

    Raises:
        UsageError: if `db` names no SQLite file.
    """
    locate(db)
    yield guarded("nas-cntk", software.package)
    yield guarded("python", software.python)
    yield guarded("libraries", software.libraries)
    yield guarded("processor", machine.processor)
    core = guarded("instructions", machine.instructions)
    yield core
    yield guarded("memory", machine.memory)
    graphics = guarded("gpu", gpu.gpu)
    yield graphics
    yield guarded("disk", lambda: storage.disk(db))
    records = guarded("database", lambda: storage.database(db))
    yield records
    if records.state == OK:
        yield guarded("leases", lambda: storage.leases(db))
    # Timed before torch is imported, whose import alone takes longer.
    if core.state != PROBLEM:
        yield from _speed("cpu", last=not _usable(graphics))
    if _usable(graphics):
        yield from _speed("cuda", last=True)
    yield guarded("torch", software.torch)
    yield guarded("extras", software.extras)


def _usable(graphics: Check) -> bool:
    from nas_cntk.errors import NasCntkError
    from nas_cntk.kernels.exact import resolve_backend

    try:
        return graphics.state == OK and resolve_backend("auto") == "cuda"
    except NasCntkError:
        return False


def _speed(backend: str, *, last: bool) -> Iterator[Check]:
    """Correctness first, then the rate; on the backend that `auto` takes, what the default search would cost."""
    right = guarded("kernels" if backend == "cpu" else f"kernels ({backend})", lambda: speed.kernels(backend))
    yield right
    if right.state != OK:
        return
    rates: list[float] = []

    def timed() -> Check:
        check, measured = speed.rate(backend)
        rates.append(measured)
        return check

    yield guarded("speed" if backend == "cpu" else f"speed ({backend})", timed)
    if last and rates:
        yield guarded("search", lambda: speed.default_search(rates[0], backend))
