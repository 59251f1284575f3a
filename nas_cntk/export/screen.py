"""What an export or a prediction shows on a console: sentences, and on a terminal one line of progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TextIO, cast

from rich.console import Console
from rich.text import Text

from nas_cntk.kernels.gram import meter


class Screen(Protocol):
    """Who shows what is done."""

    def say(self, line: str) -> None:
        """A sentence for the user."""

    def progress(self, entry_layers: float) -> Callable[[float], None] | None:
        """A kernel of so much work begins; what is returned is called with the fraction done."""


class ConsoleScreen:
    """Shows it on a console; where that is no terminal, lines stay whole and progress is not shown."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, line: str) -> None:
        """Print a sentence."""
        self._console.print(Text(line), soft_wrap=not self._console.is_terminal)

    def progress(self, entry_layers: float) -> Callable[[float], None] | None:
        """Keep a line up to date on a terminal."""
        if not self._console.is_terminal:
            return None
        show, ended = meter(entry_layers, cast("TextIO", self._console.file)), False

        def once(fraction: float) -> None:
            nonlocal ended
            if not ended:  # the end may be told more than once, and its line is the last
                show(fraction)
            ended = ended or fraction >= 1

        return once
