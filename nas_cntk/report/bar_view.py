"""What all live views share: lines that stay, warnings, and on a terminal a panel below them with a bar."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.text import Text

from nas_cntk.report.panel import Panel, bar, has_letters

BAR = 20  # columns of a bar
WARNINGS = 2  # that stay in the panel


class BarView:
    """Lines on a console and a panel of the work under way; lines alone where that is no terminal."""

    def __init__(self, console: Console, db: str) -> None:
        self._console = console
        self._db = db
        self._warned: deque[str] = deque(maxlen=WARNINGS)
        self._log = WarningLog(self._warns)
        self._live: Panel | None = None
        self._shown: tuple[str, float, str] | None = None  # words, fraction done, what lies ahead

    def __enter__(self) -> Self:
        self._log.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.close()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _show(self, words: str, fraction: float, ahead: str = "") -> None:
        new = self._shown is None or self._shown[0] != words
        self._shown = words, fraction, ahead
        self._open()
        if new:
            self._refresh()

    def _hide(self) -> None:
        self._shown = None

    def _open(self) -> None:
        """Show the panel, where the console is a terminal that can move its cursor."""
        if self._live is None and self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Panel(self._console, self._lines)
            self._live.start()

    def _refresh(self) -> None:
        """Draw the panel now: something else runs. What merely goes on is drawn four times a second."""
        if self._live is not None:
            self._live.refresh()

    def _lines(self, width: int) -> Sequence[Text]:
        """Return the lines of the panel; called four times a second, by a thread of its own."""
        lines = [] if self._shown is None else [self._bar(*self._shown)]
        return [*lines, *self._warning_lines()]

    def _bar(self, words: str, fraction: float, ahead: str = "") -> Text:
        line = Text(f"{words} ")
        line.append_text(bar(fraction, BAR, plain=not has_letters(self._console)))
        line.append(f" {100 * fraction:3.0f} %")
        return line.append(f" {ahead}" if ahead else "")

    def _warning_lines(self) -> list[Text]:
        return [Text(f"warning: {message}", "yellow") for message in tuple(self._warned)]

    def _warns(self, message: str) -> None:
        self._warned.append(message)
        self._print(f"warning: {message}", "yellow")

    def _print(self, line: str, style: str | None = None) -> None:
        # Off a terminal a line stays one line, for programs; on one it is folded between words.
        self._console.print(Text(line, style or ""), soft_wrap=not self._console.is_terminal)


class WarningLog(logging.Handler):
    """Hands what the package warns of to a view while it is open; standard error would run into its panel."""

    def __init__(self, warns: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._hand_on = warns

    def open(self) -> None:
        """Listen from now on."""
        logging.getLogger("nas_cntk").addHandler(self)

    def close(self) -> None:
        """Listen no more."""
        logging.getLogger("nas_cntk").removeHandler(self)
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a warning on, as one line."""
        self._hand_on(" ".join(record.getMessage().split()))
