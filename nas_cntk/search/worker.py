"""One of several processes on a study: reads its order from standard input, and works until that closes."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from nas_cntk.architecture import Architecture
from nas_cntk.errors import NasCntkError
from nas_cntk.records.trials import Finished
from nas_cntk.report.text import clean
from nas_cntk.search.workers import Order


class Silence:
    """An observer that shows nothing: the parent reads the records."""

    def trial_begins(self, number: int, architecture: Architecture, predicted: float, others: int) -> None:
        """Show nothing."""

    def progress(self, fraction: float) -> None:
        """Show nothing."""

    def trial_ends(self, trial: Finished) -> None:
        """Show nothing."""

    def waits(self, working: int) -> None:
        """Show nothing."""


def main() -> int:
    """Search until the study is complete, the time is over, or the parent has ended."""
    from nas_cntk.search import session

    # A Ctrl-C in the parent's terminal reaches the parent alone. A SIGTERM for this process ends it gently.
    order = Order.read(sys.stdin.readline())
    began = time.monotonic()
    orphaned = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: orphaned.set())

    def watch() -> None:
        # Not through sys.stdin, whose lock a thread that waits would hold when the interpreter ends.
        while os.read(sys.stdin.fileno(), 1024):
            pass
        orphaned.set()

    threading.Thread(target=watch, name="nas-cntk parent", daemon=True).start()

    def ends() -> str | None:
        if orphaned.is_set():
            return "interrupted"
        return "timeout" if order.seconds is not None and time.monotonic() - began > order.seconds else None

    try:
        session.work(order, ends, Silence())
    except NasCntkError as error:
        print(f"error: {clean(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
