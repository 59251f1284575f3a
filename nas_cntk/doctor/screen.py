"""The checks on a screen: a line each, folded under itself, and what they come to."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nas_cntk.doctor.check import OK, PROBLEM, WARNING, Check

STYLES = {OK: "green", WARNING: "yellow", PROBLEM: "bold red"}
NAME_WIDTH = 12  # of the longest common name; "speed (cuda)" is as long


def show(console: Console, check: Check) -> None:
    """Print a check; off a terminal it is one line."""
    remedy = "" if check.remedy is None else f"to mend it: {check.remedy}"
    if not console.is_terminal:
        line = f"{check.state:<7}  {check.name:<{NAME_WIDTH}}  {check.found}{'; ' if remedy else ''}{remedy}"
        console.print(Text(line), soft_wrap=True)
        return
    grid = Table.grid(padding=(0, 2))
    grid.add_column(width=7)
    grid.add_column(min_width=NAME_WIDTH, no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(Text(check.state, STYLES[check.state]), check.name, Text(check.found))
    if remedy:
        grid.add_row("", "", Text(remedy, "bold"))
    console.print(grid)


def verdict(checks: Sequence[Check]) -> str:
    """Return in a line what the checks come to."""
    warnings = sum(check.state == WARNING for check in checks)
    problems = [check.name for check in checks if check.state == PROBLEM]
    said = f"{warnings} warning{'' if warnings == 1 else 's'}" if warnings else "no warnings"
    if problems:
        return f"{len(problems)} problem{'' if len(problems) == 1 else 's'} ({', '.join(problems)}), {said}"
    return f"a search can run here; {said}"
