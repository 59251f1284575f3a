"""The command line: every command under its name, and errors turned into exit codes."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Callable
from types import FrameType

import typer

from nas_cntk.commands import benchmark, board, data, database, doctor, model, paper, search, studies, validate
from nas_cntk.commands.output import SETTINGS
from nas_cntk.errors import NasCntkError, UsageError
from nas_cntk.report.text import clean

# In the order of --help.
COMMANDS: tuple[tuple[Callable[..., None], str], ...] = (
    (search.search, "nas-cntk search --data cifar10:cifar-10-batches-py --image-size 8 --space stages"),
    (search.resume, "nas-cntk resume --trials 60"),
    (search.watch, "nas-cntk watch --study digits-plain-1"),
    (board.leaderboard, "nas-cntk leaderboard --top 10 --distinct"),
    (board.show, "nas-cntk show 12"),
    (board.report, "nas-cntk report --output report.html"),
    (validate.validate, "nas-cntk validate --spread 12"),
    (search.score, "nas-cntk score ARCH.json --data digits --subset 500 --holdout 500"),
    (studies.clean, "nas-cntk clean --dry-run"),
    (model.export, "nas-cntk export 12 --to model --onnx"),
    (model.predict, "nas-cntk predict model --data folder:photos --output predictions.csv"),
    (doctor.doctor, "nas-cntk doctor"),
)
GROUPS = (
    ("studies", studies.app),
    ("db", database.app),
    ("data", data.app),
    ("paper", paper.app),
    ("benchmark", benchmark.app),
)

app = typer.Typer(
    name="nas-cntk",
    help="Search neural architectures with exact convolutional neural tangent kernels.",
    epilog="Begin with: nas-cntk search",
    pretty_exceptions_enable=False,
    **SETTINGS,
)
for _command, _example in COMMANDS:
    app.command(epilog=f"Example: {_example}")(_command)
for _name, _group in GROUPS:
    app.add_typer(_group, name=_name)


def main() -> None:
    """Run the command line; the only place that turns errors into exit codes."""
    for name in ("SIGTERM", "SIGHUP"):  # no SIGHUP on Windows, and none that nohup has asked to ignore
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _terminated)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without ± shows a question mark, and no traceback
    try:
        # Typer itself exits with 2 on wrong usage, and with 130 on KeyboardInterrupt.
        app(prog_name="nas-cntk")
    except NasCntkError as error:
        _fail(" ".join(str(error).split()), 2 if isinstance(error, UsageError) else 1)
    except MemoryError:
        _fail("out of memory; use a smaller --subset, --holdout or --image-size", 1)


def _terminated(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _fail(message: str, code: int) -> None:
    sys.stdout.flush()
    print(f"error: {clean(message)}", file=sys.stderr)
    sys.exit(code)
