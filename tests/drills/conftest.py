"""Figures of the drills, printed at the end: how often what was done, and what came of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

_FIGURES: list[str] = []


@pytest.fixture
def figure() -> Callable[[str], None]:
    """Takes a line for the end of the run (`make drills`; lines of other processes of pytest-xdist are lost)."""
    return _FIGURES.append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures."""
    if _FIGURES:
        terminalreporter.section("drills")
        for line in _FIGURES:
            terminalreporter.line(line)
