"""Writing the report: the study is read, its best architecture asked, the page rendered and written whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from nas_cntk.errors import UsageError
from nas_cntk.files import write_file
from nas_cntk.records import trials
from nas_cntk.records.migrations import open_records
from nas_cntk.report.board import load_board
from nas_cntk.report.html.page import Winner, page, winner
from nas_cntk.report.html.predictions import LeftOut, predictions
from nas_cntk.report.html.rendering import check_installed, render

MAX_SECONDS = 60.0  # for what the best architecture says of each image
_LONGEST = 100  # characters of a study's name in that of a file


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be reported, and where to."""

    db: str
    study: str | None
    output: str | None
    top: int
    images: bool
    max_seconds: float
    data: str | None  # where the study's data are now

    def __post_init__(self) -> None:
        if not self.images and self.data is not None:
            raise UsageError("--data is for the images, which --no-images leaves out; give one of the two")


@dataclass(frozen=True, slots=True)
class Written:
    """A report that was written."""

    file: str
    size: int  # bytes
    study: str
    finished: int
    target: int
    winner: Winner | None
    validated: bool
    left_out: str | None  # why it has no confusion matrix


def write_report(request: Request, say: Callable[[str], None]) -> Written:
    """Write the report of a study, the newest one if none is named.

    Raises:
        BackendUnavailable: without Jinja2.
        UsageError: if the output is a folder.
        RecordsError: if the database cannot be read, or the file not written.
        StudyError, DataError: if there is no such study, or the data that were named are not its own.
    """
    check_installed()
    board = load_board(request.db, request.study)
    output = request.output or default_name(board.study.name)
    target = Path(output).expanduser()
    if target.is_dir():
        raise UsageError(f"--output {output} is a folder; name a file in it, for example report.html")
    records = open_records(request.db, write=False)
    try:
        suggested = trials.suggestions(records, board.study.study_id)
    finally:
        records.close()
    if request.images:
        found = predictions(board, request.db, request.data, request.max_seconds, say)
    else:
        found = LeftOut("--no-images was given")
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    content = render(page(board, request.db, suggested, found, top=request.top, written=now)).encode()
    write_file(target, lambda file: file.write(content))
    return Written(
        file=output,
        size=len(content),
        study=board.study.name,
        finished=len(board.rows),
        target=board.study.target,
        winner=winner(board),
        validated=bool(board.validated),
        left_out=found.reason if isinstance(found, LeftOut) else None,
    )


def default_name(study: str) -> str:
    """Return the name of a study's report; what no file may be called becomes %XX."""
    return f"nas-cntk-report-{quote(study, safe=' ()[]+,;=@!~')[:_LONGEST]}.html"
