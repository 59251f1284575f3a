"""What the live views of work in units share: lines that stay, and on a terminal one bar below them."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text


class BarView:
    """Lines on a console and a bar of the unit under way; lines alone where that is no terminal."""

    def __init__(self, console: Console, db: str) -> None:
        self._console = console
        self._db = db
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _show(self, words: str, fraction: float, ahead: str = "") -> None:
        if not self._console.is_terminal:
            return
        if self._bar is None:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                TextColumn("{task.percentage:>3.0f} %"),
                TextColumn("{task.fields[ahead]}"),
                console=self._console,
                transient=True,
                refresh_per_second=4,
            )
            self._bar.start()
        if self._task is None:
            self._task = self._bar.add_task(words, total=1.0, ahead=ahead)
        self._bar.update(self._task, description=words, completed=fraction, ahead=ahead)

    def _hide(self) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None

    def _print(self, line: str) -> None:
        # Off a terminal a line stays one line, for programs; on one it is folded between words.
        self._console.print(Text(line), soft_wrap=not self._console.is_terminal)
