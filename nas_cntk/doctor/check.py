"""A check: what was looked at, what was found, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

from nas_cntk.errors import NasCntkError

OK, WARNING, PROBLEM = "ok", "warning", "problem"  # a warning: a search runs, but something is missing or slow


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: str  # ok | warning | problem
    found: str
    remedy: str | None = None  # of a warning or a problem

    def to_dict(self) -> dict[str, str | None]:
        """Return the check for JSON."""
        return asdict(self)


def is_ok(checks: Iterable[Check]) -> bool:
    """Return whether nothing must be mended; warnings are allowed."""
    return all(check.state != PROBLEM for check in checks)


def of_error(name: str, error: NasCntkError, state: str = PROBLEM) -> Check:
    """Return the check that an error of ours comes to: its message says what, then what to do."""
    found, _, remedy = " ".join(str(error).split()).partition("; ")
    return Check(name, state, found, remedy or None)


def guarded(name: str, look: Callable[[], Check]) -> Check:
    """Return what `look` finds; whatever it raises is a finding too, and no other check is lost by it."""
    try:
        return look()
    except NasCntkError as error:
        return of_error(name, error)
    except Exception as error:
        words = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return Check(name, PROBLEM, f"fails with {words}", "reinstall nas-cntk: pip install --force-reinstall nas-cntk")


def size(count: float) -> str:
    """Return bytes as 512 MiB or 21.4 GiB."""
    if count >= 2**30:
        return f"{count / 2**30:.1f} GiB"
    return f"{count / 2**20:.0f} MiB" if count >= 2**20 else f"{max(0.0, count) / 2**10:.0f} KiB"
