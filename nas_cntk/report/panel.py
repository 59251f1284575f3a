"""A few lines at the bottom of a terminal that are drawn again while the log above them scrolls as ever."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderResult
from rich.live import Live
from rich.text import Text

ROOM = 2  # columns left free, for the ^C that a terminal echoes
WIDEST = 118  # columns, beyond which a line of numbers is hard to read
REFRESH = 4.0  # a second

Lines = Callable[[int], Sequence[Text]]  # of a width


class Panel(Live):
    """Shows what `lines` returns, four times a second, as one write: nothing flickers, and at the end it is gone."""

    def __init__(self, console: Console, lines: Lines) -> None:
        self._content = _Content(lines)
        super().__init__(self._content, console=console, transient=True, refresh_per_second=REFRESH)

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Erase the panel, print what is to be printed, draw the panel again."""
        width = self.console.width
        rows = sum(max(1, math.ceil(drawn / width)) for drawn in self._content.drawn)
        if rows > len(self._content.drawn):
            # The terminal was made narrower and has folded the lines that were there: so many more are to be erased.
            self._live_render._shape = width, rows
        return super().process_renderables(renderables)


class _Content:
    """The lines, cut where the terminal ends."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self.drawn: list[int] = []  # columns of each line, as drawn last

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(10, min(options.max_width - ROOM, WIDEST))
        self.drawn = []
        for line in self._lines(width):
            line.truncate(width, overflow="ellipsis")
            line.no_wrap = True
            self.drawn.append(line.cell_len)
            yield line


def bar(fraction: float, width: int, *, plain: bool = False) -> Text:
    """Return a bar of so many columns; `plain`: for terminals without our letters."""
    filled = max(0.0, min(1.0, fraction)) * width
    whole = int(filled)
    full, half, rest = ("#", "", "-") if plain else ("━", "╸", "─")  # thick and thin, where there are no colours
    text = Text(full * whole, "cyan")
    if filled - whole >= 0.5 and half:
        text.append(half, "cyan")
    text.append(rest * (width - text.cell_len), "bright_black")
    return text


def sparkline(values: Sequence[float], width: int) -> str:
    """Return values as a line of small bars, the least at the bottom; the last one is always shown."""
    bars = "▁▂▃▄▅▆▇█"
    if not values or width < 1:
        return ""
    if len(values) > width:
        values = [values[round(i * (len(values) - 1) / max(1, width - 1))] for i in range(width)]
    low, high = min(values), max(values)
    if high == low:
        return bars[3] * len(values)
    return "".join(bars[round((value - low) / (high - low) * (len(bars) - 1))] for value in values)


def has_letters(console: Console) -> bool:
    """Return whether the terminal can show lines and bars."""
    return (console.encoding or "").lower().replace("-", "").startswith("utf")
