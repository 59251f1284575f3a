"""Scales: values to places in a plot, with ticks at round numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

ROOM = 0.06  # of the range, left free at both ends
WORST = 0.1  # of the values, that may be left out


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from `low` to `high`, laid from `start` to `end` (units of the plot), linearly or by their logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Return the place of a value; beyond the ends that of the end."""
        low, high, value = (map(math.log10, (self.low, self.high, value))) if self.log else (self.low, self.high, value)
        part = min(1.0, max(0.0, (value - low) / (high - low)))
        return round(self.start + part * (self.end - self.start), 1)

    def ticks(self, form: Callable[[float], str], most: int = 6) -> tuple[Tick, ...]:
        """Return ticks at round values, at most about `most`, one a label."""
        values = _decades(self.low, self.high, most) if self.log else _steps(self.low, self.high, most)
        found: dict[str, Tick] = {}
        for value in values:
            found.setdefault(form(value), Tick(self.at(value), form(value)))
        return tuple(found.values())


def linear(values: Sequence[float], start: float, end: float) -> Scale:
    """Return the scale that holds all values, with some room; equal values lie in the middle."""
    low, high = min(values), max(values)
    room = ROOM * (high - low) or 0.01 * abs(high) or 1.0
    return Scale(low - room, high + room, start, end)


def upper(values: Sequence[float], greatest: bool, start: float, end: float) -> Scale:
    """Return a linear scale that leaves out the worst tenth where they would squeeze the others into a third.

    The best are the greatest values, or the least.
    """
    whole = linear(values, start, end)
    if len(values) < 1 / WORST:
        return whole
    ordered = sorted(values, reverse=not greatest)
    kept = linear(ordered[int(WORST * len(ordered)) :], start, end)
    return kept if kept.high - kept.low < (whole.high - whole.low) / 3 else whole


def logarithmic(values: Sequence[float], start: float, end: float) -> Scale:
    """Return the scale that holds all values, which are positive, by their logarithm."""
    low, high = min(values), max(values)
    room = max((high / low) ** ROOM, 1.1)
    return Scale(low / room, high * room, start, end, log=True)


def _steps(low: float, high: float, most: int) -> list[float]:
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float, most: int) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1, 2, 5), (1, 3), (1,)):
        values = [f * 10.0**power for power in range(first, last + 1) for f in factors]
        inside = [value for value in values if low <= value <= high]
        if len(inside) <= most:
            return inside
    return inside[:: math.ceil(len(inside) / most)]
