"""The machine: processors, instruction set, memory, as far as this process may use them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from nas_cntk.doctor.check import OK, PROBLEM, WARNING, Check, size
from nas_cntk.errors import KernelError
from nas_cntk.machine import processor_name

LEAST_MEMORY = 1 << 30  # bytes: the default search on 32x32 images, with room
SET = "NAS_CNTK_ISA"


def processor(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> Check:
    """Return the processor, how many of it are there, and how many this process may use."""
    from nas_cntk.kernels.backends import cpu

    usable, there = cpu.threads(), os.cpu_count() or 1
    found = f"{processor_name(proc)}, {usable} of {there} logical processors usable"
    quota = cpu_quota(proc, cgroups)
    if quota is not None and quota < usable - 0.01:
        found += f", limited to the time of {quota:g}"
        remedy = (
            f"give the container more processors, or start with `taskset -c 0-{max(1, int(quota)) - 1} nas-cntk ...`"
        )
        return Check("processor", WARNING, found, f"threads wait for each other: {remedy}")
    return Check("processor", OK, found)


def instructions() -> Check:
    """Return the instruction set that the compiled core uses."""
    try:
        from nas_cntk.kernels import _native
    except ImportError as error:
        found = f"the compiled core cannot be loaded ({' '.join(str(error).split())[:200]})"
        remedy = "reinstall with a C++20 compiler at hand: pip install --force-reinstall --no-cache-dir nas-cntk"
        return Check("instructions", PROBLEM, found, remedy)
    from nas_cntk.kernels.backends import cpu

    names = list(_native.instruction_sets())
    try:
        chosen = cpu.instruction_set()
    except KernelError:
        found = f"{SET} is {os.environ.get(SET, '')!r}, which this machine does not have"
        return Check("instructions", PROBLEM, found, f"unset {SET}, or set it to one of {', '.join(names)}")
    if chosen != names[0]:
        found = f"{chosen}, because {SET} says so; this machine has {names[0]}"
        return Check("instructions", WARNING, found, f"unset {SET}")
    return Check("instructions", OK, f"{chosen} (of {', '.join(names)})")


def memory() -> Check:
    """Return the memory that this process may still take."""
    from nas_cntk.kernels.budget import available_memory

    available = available_memory()
    found = f"{size(available)} available"
    total = _total_memory()
    if total is not None:
        found += f" of {size(total)}"
    if available < LEAST_MEMORY:
        remedy = "close other programs, or search with a smaller --subset and --holdout"
        return Check("memory", WARNING, found, remedy)
    return Check("memory", OK, found)


def cpu_quota(proc: Path, cgroups: Path) -> float | None:
    """Return the processors whose time the control group allows, the least on the way up; None: no limit."""
    found = []
    for folder in _groups(proc, cgroups):
        try:
            quota, period = (folder / "cpu.max").read_text().split()[:2]
            found.append(int(quota) / int(period))
        except (OSError, ValueError, ZeroDivisionError):
            pass  # "max": no limit here
    try:  # version 1
        quota, period = ((cgroups / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        if int(quota) > 0:
            found.append(int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):
        pass
    return min(found, default=None)


def _groups(proc: Path, cgroups: Path) -> Iterator[Path]:
    """The control group of this process and those that hold it (version 2), the root last."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    own = next((line.split(":", 2)[2] for line in lines if line.startswith("0::")), None)
    if own is None:
        return
    folder = cgroups / own.lstrip("/")
    yield folder
    yield from (parent for parent in folder.parents if parent.is_relative_to(cgroups))


def _total_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
