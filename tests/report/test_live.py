"""The live view: plain lines off a terminal, a panel that leaves nothing behind on one."""

from __future__ import annotations

import io
import logging
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from nas_cntk.architecture import Architecture, Builder
from nas_cntk.records.studies import Study
from nas_cntk.records.trials import Finished, Score, Verdict
from nas_cntk.report.live import LiveView
from nas_cntk.report.panel import bar, sparkline
from nas_cntk.report.progress import seconds_left
from nas_cntk.scoring import parse_scores
from nas_cntk.search.bench import Forecast
from nas_cntk.search.session import Plan
from nas_cntk.search.settings import Problem


def net() -> Architecture:
    b = Builder()
    b.dense(b.flatten(b.relu(b.conv(b.input(), 3))))
    return b.build()


def plan(score: str = "holdout_accuracy", earlier: tuple[tuple[int, float], ...] = (), dear: int = 0) -> Plan:
    dataset = SimpleNamespace(
        image_shape=(8, 8, 1), spec="digits", x_train=np.zeros((1400, 1)), num_classes=10, notes=("it was shrunk",)
    )
    bench: Any = SimpleNamespace(
        cluster=None,
        dataset=dataset,
        split=SimpleNamespace(notes=("it was shrunk", "stratified")),  # a split's notes begin with its dataset's
        subset=700,
        holdout=700,
        problem=Problem(score=tuple(score.split(","))),
        scores=parse_scores(score),
        backend="cpu",
    )
    space: Any = SimpleNamespace(name="plain")
    study = Study(1, "digits-plain-1", "", 30, {"seed": 0}, {}, {"name": "tpe"}, {}, 1e9, "cpu")
    return Plan(study, True, 0, (), bench, space, Forecast(0.5, 400.0, 10.0, 8, dear, 0), 300.0, earlier)


def ended(number: int, accuracy: float | None, duplicate_of: int | None = None) -> Finished:
    if accuracy is None:
        return Finished(number, number, Verdict("PRUNED", "illegal: [node 3]"), None, None, None)
    score = Score("k", 700, 700, "", {"values": {"holdout_accuracy": accuracy, "holdout_mse": 1 - accuracy}}, None)
    reason = None if duplicate_of is None else f"duplicate of trial {duplicate_of}"
    verdict = Verdict("COMPLETE", reason, "k", duplicate_of, seconds=1.5)
    return Finished(number, number, verdict, score, net().to_json(), None)


def screen(text: str, width: int) -> list[str]:
    """What is left on a terminal: lines, cursor up, and erased lines are all that is written."""
    lines, row, column = [""], 0, 0
    for part in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\n|\r)", text):
        if part == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif part == "\r":
            column = 0
        elif part == "\x1b[1A":
            row -= 1
        elif part == "\x1b[2K":
            lines[row] = ""
        elif not part.startswith("\x1b"):
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
            column += len(part)
    assert max(map(len, lines)) <= width
    return lines


def shown(the_plan: Plan, trials: list[Finished], terminal: bool = False, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal)
    with LiveView(console, "runs/nas.db") as view:
        view.begins(the_plan)
        for trial in trials:
            view.trial_begins(trial.ordinal, net(), 1.0, 0)
            view.progress(0.5)
            if view._live is not None:
                view._live.refresh()
            view.trial_ends(trial)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_plain_lines_off_a_terminal() -> None:
    trials = [ended(0, 0.5), ended(1, None), ended(2, 0.4), ended(3, 0.5, 0), ended(4, 0.9)]
    text = shown(plan(dear=2), trials)
    assert "\x1b" not in text and "\r" not in text
    assert "new study digits-plain-1 in runs/nas.db" in text
    assert text.count("note: it was shrunk") == text.count("note: stratified") == 1
    assert "predicted: 0.5 s to 7 min a trial, about 4 min for 30 trials" in text
    assert "2 of 8 proposals" in text and "--max-trial-seconds" in text
    lines = [line for line in text.splitlines() if re.match(r"\s*\d+/30", line)]
    assert lines == [
        " 1/30  trial 0   50.00 %  best so far  1.5 s  flatten · 1 conv 3",
        " 2/30  trial 1   pruned, illegal: [node 3]",
        " 3/30  trial 2   40.00 %  best 50.00 %  1.5 s  flatten · 1 conv 3",
        " 4/30  trial 3   50.00 %  best 50.00 %  duplicate of trial 0",
        " 5/30  trial 4   90.00 %  best so far  1.5 s  flatten · 1 conv 3",
    ]


def test_the_trial_of_a_pass_says_how_many_networks_share_it() -> None:
    console = Console(file=io.StringIO(), width=80)
    with LiveView(console, "runs/nas.db") as view:
        view.begins(plan())
        view.trial_begins(0, net(), 1.0, 11)
        for number in (0, 1):
            view.trial_ends(ended(number, 0.5))
    assert isinstance(console.file, io.StringIO)
    lines = [line for line in console.file.getvalue().splitlines() if re.match(r"\s*\d+/30", line)]
    assert "  1.5 s x 12  " in lines[0] and "  1.5 s  " in lines[1]


def test_the_best_of_earlier_runs_and_the_direction_count() -> None:
    assert "best 95.00 %" in shown(plan(earlier=((3, 0.95),)), [ended(4, 0.9)])
    text = shown(plan("holdout_mse"), [ended(0, 0.5), ended(1, 0.4), ended(2, 0.9)])
    assert text.count("best so far") == 2 and "0.6  best 0.5" in text


def test_several_scores_are_named() -> None:
    text = shown(plan("holdout_accuracy,holdout_mse"), [ended(0, 0.5)])
    assert " 1/30  trial 0   holdout_accuracy 50.00 %  holdout_mse 0.5  best so far" in text


@pytest.mark.parametrize("width", [40, 60, 80, 160])
def test_on_a_terminal_the_panel_fits_and_is_gone_at_the_end(width: int) -> None:
    text = shown(plan(), [ended(0, 0.5), ended(1, 0.6)], terminal=True, width=width)
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1, "the cursor is hidden once and shown again"
    left = screen(text, width)
    assert [line for line in left if re.match(r" *\d+/30", line)][-1].startswith(" 2/30  trial 1   60.00 %")
    assert not any("about" in line and "trial" in line and "conv" in line for line in left[8:])
    assert not any(line.startswith(("──", "best ")) for line in left)


def test_the_panel_says_what_runs_and_what_is_best() -> None:
    view = LiveView(Console(file=io.StringIO(), width=100, force_terminal=True), "runs/nas.db")
    with view:
        view.begins(plan(earlier=((0, 0.2), (1, 0.7), (2, 0.6))))
        view.trial_begins(7, net(), 8.0, 0)
        view.progress(0.25)
        lines = [line.plain for line in view._lines(98)]
    assert lines[0].startswith("── digits-plain-1 · digits 8x8x1 · plain · cpu at 1e+09 entry-layers/s ──")
    assert lines[1].startswith("0/30 ") and "left" in lines[1]
    assert lines[2].startswith("trial 7  flatten · 1 conv 3") and " 25 %  about 8.0 s" in lines[2]
    assert lines[3] == "best 70.00 % (trial 1)  ▁██"


@pytest.mark.parametrize("width", [40, 60, 80])
def test_the_panel_leaves_room_for_what_ctrl_c_echoes(width: int) -> None:
    b = Builder()
    x = b.input()
    for kernel in range(1, 30, 2):
        x = b.relu(b.conv(x, kernel))
    b.dense(b.flatten(x))
    console = Console(file=io.StringIO(), width=width, force_terminal=True)
    with LiveView(console, "runs/nas.db") as view:
        view.begins(plan())
        view.trial_begins(0, b.build(), 100.0, 0)
        lines = list(console.render_lines(view._live._content, pad=False))  # type: ignore[union-attr]
    assert len(lines) == 3
    for line in lines:
        assert sum(segment.cell_length for segment in line) <= width - 2


def test_a_warning_of_the_package_is_a_line_and_stays_in_the_panel() -> None:
    console = Console(file=io.StringIO(), width=80)
    view = LiveView(console, "runs/nas.db")
    with view:
        view.begins(plan())
        logging.getLogger("nas_cntk").warning("GPU %d is\nout of memory", 1)
        failed = Finished(0, 0, Verdict("PRUNED", "failed: out of memory"), None, None, None)
        view.trial_ends(failed)
        assert [line.plain for line in view._lines(80)][-2:] == [
            "warning: GPU 1 is out of memory",
            "warning: trial 0 failed: out of memory",
        ]
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().count("warning: GPU 1 is out of memory\n") == 1
    assert not logging.getLogger("nas_cntk").handlers


def test_a_terminal_made_narrower_is_cleaned_of_the_folded_panel() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    view = LiveView(console, "runs/nas.db")
    with view:
        view.begins(plan())
        view.trial_begins(0, net(), 1.0, 0)
        assert view._live is not None
        view._live.refresh()
        drawn = view._live._content.drawn
        rows = sum(-(-columns // 50) for columns in drawn)
        assert rows > len(drawn)
        assert isinstance(console.file, io.StringIO)
        before = len(console.file.getvalue())
        console.width = 50
        view._live.refresh()
        erased = console.file.getvalue()[before:].partition("──")[0]
        assert erased.count("\x1b[1A") == rows - 1


def test_sparkline_and_bar() -> None:
    assert sparkline([], 9) == "" and sparkline([1.0, 1.0], 9) == "▄▄"
    assert sparkline([0.0, 0.5, 1.0], 9) == "▁▅█" or sparkline([0.0, 0.5, 1.0], 9) == "▁▄█"
    long = sparkline([float(i) for i in range(1000)], 8)
    assert long == "▁▂▃▄▅▆▇█"
    assert bar(0.5, 4, plain=True).plain == "##--" and bar(7.0, 4).plain == "━━━━" and bar(-1.0, 4).plain == "────"
    assert seconds_left(10, 2.0, 100.0, 1) == 20.0 and seconds_left(10, 2.0, 100.0, 5) == 200.0


def test_on_a_terminal_lines_are_folded_between_words_and_elsewhere_not_at_all() -> None:
    long = plan()
    assert "entry-layers/s)" in "\n".join(screen(shown(long, [], terminal=True), 80))
    assert max(map(len, shown(long, []).splitlines())) > 80


def test_a_study_that_goes_on_says_how_far_it_is() -> None:
    again = replace(plan(), new=False, finished=12)
    assert "continuing study digits-plain-1 in runs/nas.db: 12 of 30 trials finished\n" in shown(again, [])
