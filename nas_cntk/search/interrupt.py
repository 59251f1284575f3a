"""Ctrl-C, SIGTERM, a terminal that closes: asked once, the search ends between two steps; asked twice, at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType


def ending_signals() -> list[signal.Signals]:
    """Return the signals that ask this process to end; SIGHUP is not among them where it is ignored, as by nohup."""
    found = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        found.append(signal.SIGHUP)
    return found


class Interrupt:
    """While entered, notes the first signal to end instead of raising; the second raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in ending_signals():
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
