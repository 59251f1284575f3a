"""What is shown: sentences everywhere, progress on a terminal alone, and its end once."""

from __future__ import annotations

import io

from rich.console import Console

from nas_cntk.export.screen import ConsoleScreen


def test_a_terminal() -> None:
    stream = io.StringIO()
    screen = ConsoleScreen(Console(file=stream, force_terminal=True, width=40, color_system=None))
    screen.say("[red]five[/red] words " + "and a long one " * 4)
    assert "[red]five[/red]" in stream.getvalue() and max(map(len, stream.getvalue().splitlines())) <= 40
    show = screen.progress(1e9)
    assert show is not None
    for fraction in (0.0, 0.5, 1.0, 1.0):
        show(fraction)
    assert stream.getvalue().count("100.0 %") == 1


def test_no_terminal() -> None:
    stream = io.StringIO()
    screen = ConsoleScreen(Console(file=stream, width=40))
    screen.say("a line that stays whole " * 5)
    assert stream.getvalue().count("\n") == 1 and screen.progress(1e9) is None
