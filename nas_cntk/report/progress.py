"""How far a search is: what the live view and `nas-cntk watch` show alike, as values and as lines of a panel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.text import Text

from nas_cntk.report import text
from nas_cntk.report.panel import bar, sparkline

BAR = 20  # columns of a bar
SHORT = 10  # of one beside a trial
SPARKS = 24  # columns of the sparkline
MOST_RUNNING = 4  # trials under way that have a line each
ENOUGH = 3  # trials, from which their own pace says more than the prediction


@dataclass(frozen=True, slots=True)
class Running:
    """A trial under way."""

    number: int | None
    words: str
    seconds: float  # since it began
    predicted: float | None = None  # seconds
    fraction: float | None = None  # done, where it is known
    known_left: float | None = None  # seconds, of whoever knows better

    @property
    def left(self) -> float | None:
        """Seconds to go: at its own pace once that is known, as predicted before."""
        if self.known_left is not None:
            return self.known_left
        if self.fraction is not None and self.fraction > 0.1:
            return self.seconds * (1 - self.fraction) / self.fraction
        return None if self.predicted is None else max(0.0, self.predicted - self.seconds)


@dataclass(frozen=True, slots=True)
class Course:
    """A search at one moment."""

    title: str
    score: str  # the one that ranks
    finished: int
    target: int
    best: float | None
    best_trial: int | None
    bests: Sequence[float]  # the best score after each trial that has one
    running: Sequence[Running] = ()
    left: float | None = None  # seconds
    state: str = ""  # said in place of trials under way, where there are none
    warnings: Sequence[str] = field(default=())

    @property
    def fraction(self) -> float:
        """How much is done, of the trials under way too."""
        parts = sum(one.fraction or 0.0 for one in self.running)
        return min(1.0, (self.finished + parts) / max(1, self.target))


def seconds_left(remaining: float, each: float, elapsed: float, here: float) -> float:
    """Return the seconds to go.

    Args:
        remaining: trials to go, parts of those under way taken off.
        each: seconds that a trial was predicted to take.
        elapsed: seconds that this run has been searching.
        here: trials finished in that time, and parts of those under way.
    """
    return max(0.0, remaining) * (elapsed / here if here >= ENOUGH else each)


def lines_of(course: Course, width: int, *, plain: bool) -> list[Text]:
    """Return the lines of a panel: narrow ones leave out what is least missed."""
    lines = [rule(course.title, width, plain=plain)]
    words = Text(f"{course.finished}/{course.target} ")
    words.append_text(bar(course.fraction, BAR, plain=plain))
    words.append(f" {100 * course.fraction:3.0f} %")
    if course.left is not None and course.finished < course.target:
        words.append(f"  {text.duration(course.left)} left")
    lines.append(words)
    lines += [_running(one, width, plain=plain) for one in course.running[:MOST_RUNNING]]
    if len(course.running) > MOST_RUNNING:
        lines.append(Text(f"and {len(course.running) - MOST_RUNNING} more trials under way"))
    if not course.running and course.state:
        lines.append(Text(course.state))
    if course.best is not None:
        best = Text(f"best {text.score(course.score, course.best)}", "bold")
        if course.best_trial is not None:
            best.append(f" (trial {course.best_trial})")
        room = min(SPARKS, width - best.cell_len - 2)
        if not plain and len(course.bests) > 1 and room > 3:
            best.append(f"  {sparkline(course.bests, room)}", "green")
        lines.append(best)
    lines += [Text(f"warning: {message}", "yellow") for message in course.warnings]
    return lines


def rule(title: str, width: int, *, plain: bool) -> Text:
    """Return a line that sets the panel apart from the log above it."""
    line = "-" if plain else "─"
    head = Text(f"{line * 2} {title} ", "dim")
    head.truncate(width, overflow="ellipsis")
    return head.append(line * max(0, width - head.cell_len))


def _running(one: Running, width: int, *, plain: bool) -> Text:
    name = "trial" if one.number is None else f"trial {one.number}"
    tail = Text()
    if one.fraction is not None:
        tail.append("  ")
        tail.append_text(bar(one.fraction, SHORT, plain=plain))
        tail.append(f" {100 * one.fraction:3.0f} %")
    if one.predicted is not None and one.fraction is None:
        tail.append(f"  for {text.duration(one.seconds)} of about {text.duration(one.predicted)}")
    elif one.predicted is not None:
        tail.append(f"  about {text.duration(one.predicted)}")
    else:
        tail.append(f"  for {text.duration(one.seconds)}")
    if width >= 90 and one.left is not None and one.fraction is not None:
        tail.append(f", {text.duration(one.left)} left")
    head = Text(f"{name}  {one.words}".rstrip())
    head.truncate(max(8, width - tail.cell_len), overflow="ellipsis")
    return head.append_text(tail)
