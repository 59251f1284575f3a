"""What `nas-cntk paper` is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas_cntk.errors import UsageError

MIN_DEPTH, MAX_DEPTH = 3, 100  # at depth 2 nothing of the net with frozen ends is trained
LEAST_WIDTH, MOST_WIDTH = 2, 16_384


@dataclass(frozen=True, slots=True)
class Wishes:
    """The options; None, or an empty tuple, means what the experiment chooses for a small run.

    `full` takes the paper's own sizes for what is not given.
    """

    data: str = "digits"
    depths: tuple[int, ...] = ()
    columns: tuple[str, ...] = ()
    train: int | None = None
    test: int | None = None
    image_size: int | None = None
    full: bool = False
    backend: str = "auto"
    devices: str = "auto"
    max_seconds: float | None = None  # of a column, beyond which it is not begun
    seed: int = 0
    epochs: int | None = None  # table1: of the CNNs
    width: int | None = None  # table1: of the CNNs
    draws: int | None = None  # table2
    channels: int | None = None  # table2
    widths: tuple[int, ...] = ()  # theorems
    seeds: int | None = None  # theorems
    kappas: tuple[float, ...] = ()  # theorem2
    download: bool = False
    cluster: str | None = None  # that computes the tiles of kernels


def parse_depths(text: str | None) -> tuple[int, ...]:
    """Return what `--depths` names, in order.

    Raises:
        UsageError: on anything but integers from 3 to 100.
    """
    return tuple(sorted(set(_integers("--depths", text, MIN_DEPTH, MAX_DEPTH))))


def parse_widths(text: str | None) -> tuple[int, ...]:
    """Return what `--widths` names, in order.

    Raises:
        UsageError: on anything but at least two integers in range.
    """
    widths = tuple(sorted(set(_integers("--widths", text, LEAST_WIDTH, MOST_WIDTH))))
    if len(widths) == 1:
        raise UsageError(f"--widths {widths[0]} is one width; give two or more, such as 64,128,256")
    return widths


def parse_kappas(text: str | None) -> tuple[float, ...]:
    """Return what `--kappas` names, the greatest first.

    Raises:
        UsageError: on anything but numbers above 0, up to 100.
    """
    if text is None:
        return ()
    try:
        kappas = [float(part) for part in text.split(",")]
    except ValueError:
        kappas = [0.0]
    if not all(0 < kappa <= 100 for kappa in kappas):
        raise UsageError(f"--kappas {text[:40]!r} must be numbers above 0, such as 1,0.3,0.1")
    return tuple(sorted(set(kappas), reverse=True))


def chosen_columns(wanted: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Return the known columns that are wanted, in the paper's order; all if none is named.

    Raises:
        UsageError: naming those that there are.
    """
    by_name = {name.lower(): name for name in known}
    names = [name.strip() for name in wanted if name.strip()]
    for name in names:
        if name.lower() not in by_name:
            raise UsageError(f"there is no column {name[:40]!r}; the columns are {', '.join(known)}")
    chosen = {by_name[name.lower()] for name in names} or set(known)
    return tuple(name for name in known if name in chosen)


def _integers(option: str, text: str | None, least: int, most: int) -> list[int]:
    if text is None:
        return []
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and least <= int(part[:9]) <= most for part in parts):
        raise UsageError(f"{option} {text[:40]!r} must be integers from {least} to {most}, such as {least},{least + 1}")
    return [int(part) for part in parts]
