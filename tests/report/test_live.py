"""The live view: plain lines off a terminal, a bar that leaves nothing behind on one."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from rich.console import Console

from nas_cntk.architecture import Architecture, Builder
from nas_cntk.records.studies import Study
from nas_cntk.records.trials import Finished, Score, Verdict
from nas_cntk.report.live import LiveView
from nas_cntk.scoring import parse_scores
from nas_cntk.search.bench import Forecast
from nas_cntk.search.session import Plan
from nas_cntk.search.settings import Problem


def net() -> Architecture:
    b = Builder()
    b.dense(b.flatten(b.relu(b.conv(b.input(), 3))))
    return b.build()


def plan(score: str = "holdout_accuracy", best: float | None = None, dear: int = 0) -> Plan:
    dataset = SimpleNamespace(
        image_shape=(8, 8, 1), spec="digits", x_train=np.zeros((1400, 1)), num_classes=10, notes=("it was shrunk",)
    )
    bench: Any = SimpleNamespace(
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
    return Plan(study, True, 0, (), bench, space, Forecast(0.5, 400.0, 10.0, 8, dear, 0), 300.0, best)


def ended(number: int, accuracy: float | None, duplicate_of: int | None = None) -> Finished:
    if accuracy is None:
        return Finished(number, number, Verdict("PRUNED", "illegal: [node 3]"), None, None, None)
    score = Score("k", 700, 700, "", {"values": {"holdout_accuracy": accuracy, "holdout_mse": 1 - accuracy}}, None)
    reason = None if duplicate_of is None else f"duplicate of trial {duplicate_of}"
    verdict = Verdict("COMPLETE", reason, "k", duplicate_of, seconds=1.5)
    return Finished(number, number, verdict, score, net().to_json(), None)


def shown(the_plan: Plan, trials: list[Finished], terminal: bool = False) -> str:
    console = Console(file=io.StringIO(), width=80, force_terminal=terminal)
    with LiveView(console, "runs/nas.db") as view:
        view.begins(the_plan)
        for trial in trials:
            view.trial_begins(trial.ordinal, net(), 1.0)
            view.progress(0.5)
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
        " 1/30  holdout_accuracy 50.00 %  best so far  1.5 s  flatten · 1 conv 3",
        " 2/30  pruned, illegal: [node 3]",
        " 3/30  holdout_accuracy 40.00 %  best 50.00 %  1.5 s  flatten · 1 conv 3",
        " 4/30  holdout_accuracy 50.00 %  best 50.00 %  duplicate of trial 0",
        " 5/30  holdout_accuracy 90.00 %  best so far  1.5 s  flatten · 1 conv 3",
    ]


def test_the_best_of_earlier_runs_and_the_direction_count() -> None:
    assert "best 95.00 %" in shown(plan(best=0.95), [ended(0, 0.9)])
    text = shown(plan("holdout_mse"), [ended(0, 0.5), ended(1, 0.4), ended(2, 0.9)])
    assert text.count("best so far") == 2 and "holdout_mse 0.6  best 0.5" in text


def test_on_a_terminal_the_bar_is_gone_at_the_end() -> None:
    text = shown(plan(), [ended(0, 0.5), ended(1, 0.6)], terminal=True)
    assert "1/30 flatten" in text and "2/30 flatten" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1, "the cursor is hidden once and shown again"
    last = text.split("\x1b[2K")[-1]
    assert "about" not in last and "%" not in last


def test_the_bar_leaves_room_for_what_ctrl_c_echoes() -> None:
    b = Builder()
    x = b.input()
    for kernel in range(1, 30, 2):
        x = b.relu(b.conv(x, kernel))
    b.dense(b.flatten(x))
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with LiveView(console, "runs/nas.db") as view:
        view.begins(plan())
        view.trial_begins(0, b.build(), 100.0)
    assert isinstance(console.file, io.StringIO)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue())
    frames = [line for line in re.split(r"[\r\n]|\x1b\[[0-9;?]*[A-Za-z]", plain) if "1/30 flatten" in line]
    assert frames and max(map(len, frames)) <= 78 and all(", about 100 s" in frame for frame in frames)


def test_on_a_terminal_lines_are_folded_between_words_and_elsewhere_not_at_all() -> None:
    long = plan()
    folded = shown(long, [], terminal=True).replace("\x1b[?25l", "")
    assert "entry-layers/s)" in folded and max(map(len, folded.split("\r")[0].splitlines())) <= 80
    assert max(map(len, shown(long, []).splitlines())) > 80


def test_a_study_that_goes_on_says_how_far_it_is() -> None:
    again = replace(plan(), new=False, finished=12)
    assert "continuing study digits-plain-1 in runs/nas.db: 12 of 30 trials finished\n" in shown(again, [])
