"""What commands print alike: a console, JSON, and the next command to type."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

UNBOUNDED = 1000  # columns of what is no terminal, where a cut line would be lost
SETTINGS: dict[str, Any] = {"no_args_is_help": True, "rich_markup_mode": None}  # of every group of commands


def console_of(*, stderr: bool = False) -> Console:
    """Return a console that colours nothing by itself and prints no escape sequence that a name may hold.

    It cuts lines to a terminal's width or to $COLUMNS alone.
    """
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    from nas_cntk.report.text import clean

    class Clean(Console):
        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else Segment(clean(segment.text, "\n"), segment.style)

    console = Clean(stderr=stderr, highlight=False)
    if not console.is_terminal and not os.environ.get("COLUMNS"):
        console.width = UNBOUNDED
    return console


def print_next(console: Console, command: str) -> None:
    """Say what to type next."""
    console.print(f"next: {command}", markup=False, soft_wrap=True)


def print_json(document: object) -> None:
    """Print a document for programs; what is no number in JSON is a fault of ours."""
    print(json.dumps(document, indent=2, allow_nan=False))
