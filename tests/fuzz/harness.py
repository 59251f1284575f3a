"""Runs a reader on numbered inputs and counts: accepted, refused, seconds, memory; anything else is a failure."""

from __future__ import annotations

import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType

from nas_cntk.errors import NasCntkError

MOST_SECONDS = 5.0  # of the processor, for one input
HANGS_AFTER = 60  # seconds by the clock
MOST_GROWTH = 1 << 30  # bytes of memory, for one input
LONGEST_MESSAGE = 6000  # a path may be 4096 long


@dataclass(frozen=True, slots=True)
class Reader:
    """A reader under test.

    `run(rng, folder)` makes one input (in the folder, if it is made of files), reads it, and checks what was read:
    it returns when the input was accepted. It raises whatever the reader raises; `refusals` are the classes that the
    reader promises.
    """

    name: str
    run: Callable[[Random, Path], None]
    refusals: tuple[type[NasCntkError], ...] = (NasCntkError,)


@dataclass(slots=True)
class Figures:
    """What came of the inputs."""

    reader: str
    inputs: int = 0
    accepted: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    growth: int = 0  # bytes by which the peak of this process's memory rose
    reasons: set[str] = field(default_factory=set)  # of refusals, without names and numbers
    failures: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Return them on one line."""
        rate = self.inputs / self.seconds if self.seconds else 0.0
        return (
            f"{self.reader:<13} {self.inputs:>7,} inputs  {self.accepted:>7,} accepted"
            f" ({self.accepted / max(1, self.inputs):4.0%})  {self.inputs - self.accepted - len(self.failures):>7,}"
            f" refused for {len(self.reasons):>3} reasons  {self.seconds:7.1f} s ({rate:,.0f}/s, slowest"
            f" {self.slowest:.2f} s)  {self.growth / 2**20:+,.0f} MiB  {len(self.failures)} failures"
        )


class Hangs(Exception):
    """An input is read for longer than anybody waits."""


def seeded(reader: str, seed: int, number: int) -> Random:
    """The generator of one input: the same everywhere for the same three."""
    return Random(f"{reader} {seed} {number}")


def fuzz(
    reader: Reader,
    numbers: range,
    seed: int = 0,
    *,
    most_failures: int = 10,
    about_to: Callable[[int], None] = lambda number: None,
) -> Figures:
    """Run a reader on inputs of these numbers; every failure says how to see it again."""
    figures = Figures(reader.name)
    with temporary_folder() as root, alarms():
        for number in numbers:
            about_to(number)
            folder = root / str(number)
            folder.mkdir()
            try:
                problem = _one(reader, seeded(reader.name, seed, number), folder, figures)
            except KeyboardInterrupt:  # the figures so far are worth having
                break
            _empty(folder)
            if problem is not None:
                figures.failures.append(
                    f"{reader.name}, seed {seed}, number {number}: {problem}\n"
                    f"  again: python -m fuzz {reader.name} --seed {seed} --only {number}"
                )
                if len(figures.failures) >= most_failures:
                    break
    return figures


def _one(reader: Reader, rng: Random, folder: Path, figures: Figures) -> str | None:
    problem: str | None = None
    before, began, clock = peak_memory(), time.process_time(), time.perf_counter()
    signal.setitimer(signal.ITIMER_REAL, HANGS_AFTER)
    try:
        reader.run(rng, folder)
        figures.accepted += 1
    except reader.refusals as error:
        problem = _wrong_with(error)
        figures.reasons.add(_reason(error))
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        problem = "".join(traceback.format_exception(error)[-6:])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    took, grown = time.process_time() - began, peak_memory() - before
    figures.inputs += 1
    figures.seconds += time.perf_counter() - clock
    figures.slowest, figures.growth = max(figures.slowest, took), figures.growth + grown
    if problem is None and took > MOST_SECONDS:
        problem = f"took {took:.1f} s"
    if problem is None and grown > MOST_GROWTH:
        problem = f"took {grown / 2**20:,.0f} MiB of memory"
    return problem


def _wrong_with(error: NasCntkError) -> str | None:
    text = str(error)
    if not text or len(text.splitlines()) != 1 or len(text) > LONGEST_MESSAGE:
        return f"a message of {len(text.splitlines())} lines and {len(text)} characters: {text[:300]!r}"
    if not error.__suppress_context__ and error.__context__ is not None:
        return f"a message that shows what is inside: {type(error.__context__).__name__} before {text[:300]!r}"
    if re.search(r"does not fit into memory|MemoryError|out of memory", text):  # refused only once it was too late
        return f"no memory left: {text[:300]!r}"
    return None


def _reason(error: NasCntkError) -> str:
    return re.sub(r"'[^']*'|\"[^\"]*\"|\S*/\S*|[\d,.]+", "#", str(error))[:60]


def _empty(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def peak_memory() -> int:
    """The most that this process has had in memory so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that goes at the end, in memory where the system has such a place."""
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="nas-cntk-fuzz-", dir=place, ignore_cleanup_errors=True) as name:
        yield Path(name)


@contextmanager
def alarms() -> Iterator[None]:
    """Let the alarm clock raise `Hangs`."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise Hangs(f"still reading after {HANGS_AFTER} s")

    before = signal.signal(signal.SIGALRM, ring)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
