"""What boards, trials and the live view show of validations."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console, RenderableType

from nas_cntk.architecture import Architecture, Builder
from nas_cntk.records.trials import Finished, Score, Verdict
from nas_cntk.records.validations import Validation
from nas_cntk.report import tables
from nas_cntk.report.rows import Row, row_of
from nas_cntk.report.trust import trust, trust_panel
from nas_cntk.report.validation_view import ValidationView
from nas_cntk.validate.forecast import Sizes, Unit
from nas_cntk.validate.selection import Candidate
from nas_cntk.validate.session import Plan
from nas_cntk.validate.wishes import Wishes

DIRECTIONS = {"holdout_accuracy": "maximize"}


def net() -> Architecture:
    b = Builder()
    b.dense(b.flatten(b.relu(b.conv(b.input(), 3))))
    return b.build()


def validation(key: str, accuracy: float | None, kind: str = "cnn", recipe: str | None = "standard") -> Validation:
    stderr = None if accuracy is None else 0.005
    details = {"best_on_test": 0.995} if recipe == "paper" else {}
    return Validation(1, key, 7, kind, recipe, accuracy, stderr, 1400, 397, 12.0, details, "2026-01-01")


def rows(count: int, validated: list[Validation]) -> list[Row]:
    made = []
    for n in range(count):
        score = Score(f"k{n}", 700, 700, "", {"values": {"holdout_accuracy": 0.9 - n / 100}}, None)
        verdict = Verdict("COMPLETE", key=f"k{n}", subset=700, params=1000 + n, flops=10**6 + n, seconds=3.0)
        made.append(row_of(Finished(n, n, verdict, score, net().to_json(), None), validated))
    return made


def printed(thing: RenderableType, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(thing)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_row_takes_the_standard_recipe_and_the_kernel() -> None:
    known = [
        validation("k0", 0.97, recipe="paper"),
        validation("k0", 0.98),
        validation("k0", 0.99, "kernel", None),
        validation("k1", 0.96, recipe="paper"),
        validation("k2", None),
    ]
    first, second, third, fourth = rows(4, known)
    assert (first.cnn_accuracy, first.cnn_recipe, first.full_kernel_accuracy) == (0.98, "standard", 0.99)
    assert (second.cnn_accuracy, second.cnn_recipe, second.full_kernel_accuracy) == (0.96, "paper", None)
    assert (third.cnn_accuracy, third.cnn_recipe) == (None, "standard")
    assert (fourth.cnn_accuracy, fourth.cnn_recipe) == (None, None)


@pytest.mark.parametrize("width", [80, 140])
def test_the_leaderboard_has_columns_for_what_is_validated(width: int) -> None:
    known = [validation("k0", 1.0), validation("k1", None), validation("k0", 0.9925, "kernel", None)]
    lines = printed(tables.leaderboard(rows(3, known), DIRECTIONS, {}, width), width).splitlines()
    assert max(map(len, lines)) <= width
    heads = lines[0].split()
    assert "CNN" in heads and "kernel" in heads and ("time" in heads) == (width == 140)
    assert "100.00 %" in lines[2] and "99.25 %" in lines[2] and "diverged" in lines[3]
    plain = printed(tables.leaderboard(rows(3, []), DIRECTIONS, {}, width), width).splitlines()[0].split()
    assert "CNN" not in plain and "kernel" not in plain and "time" in plain


def test_a_trial_says_how_it_was_validated() -> None:
    known = [validation("k0", 0.98, recipe="paper"), validation("k0", None), validation("k0", 0.99, "kernel", None)]
    body = printed(tables.trial(rows(1, known)[0], net(), (8, 8, 1), 10, 80, known))
    assert max(map(len, body.splitlines())) <= 80
    words = " ".join(body.split())
    assert "CNN, paper 98.00 ± 0.50 % of 397 test images (best on test, as the paper reports: 99.50 %)" in words
    assert "CNN, standard diverged at every learning rate" in words
    assert "full kernel 99.00 ± 0.50 % of 397 test images; fitted on 1,400, 12 s" in words


def test_trust_is_shown_for_every_kind() -> None:
    known = [validation(f"k{n}", 0.99 - n / 50) for n in range(9)]
    known += [validation(f"k{n}", 0.9, "kernel", None) for n in range(2)]
    found = trust(rows(10, known), DIRECTIONS, known)
    assert [(one.target, one.architectures) for one in found] == [("CNN, standard recipe", 9), ("full kernel", 2)]
    assert found[0].lines[0].spearman.value == pytest.approx(1.0)
    body = printed(trust_panel(found, DIRECTIONS, 80))
    assert max(map(len, body.splitlines())) <= 80
    assert "1.00 [1.00, 1.00]" in body and "ranks these architectures well" in body and "proves little" in body
    assert trust(rows(10, known), {"holdout_accuracy": "minimize"}, known)[0].lines[0].spearman.value == pytest.approx(
        -1
    )


def test_a_handful_has_no_intervals() -> None:
    known = [validation(f"k{n}", 0.99 - n / 50) for n in range(5)]
    (found,) = trust(rows(5, known), DIRECTIONS, known)
    assert found.lines[0].spearman.value == pytest.approx(1.0) and found.lines[0].spearman.low is None
    body = printed(trust_panel([found], DIRECTIONS, 80))
    assert "proves little" in body and "[" not in body


def test_trust_notes_validations_that_were_made_otherwise() -> None:
    known = [validation(f"k{n}", 0.99 - n / 50) for n in range(3)]
    assert not any("differ in" in note for note in trust(rows(3, known), DIRECTIONS, known)[0].notes)
    schedules = [{"schedule": {"epochs": 15, "flips": n == 1}, "epochs": n, "width": 64} for n in range(3)]
    known = [replace(one, details=details) for one, details in zip(known, schedules, strict=True)]
    known[2] = replace(known[2], train_images=700)
    notes = trust(rows(3, known), DIRECTIONS, known)[0].notes
    assert any(note.startswith("they differ in training images, flips, which") for note in notes)


def plan(recipe: str = "standard") -> Plan:
    dataset = SimpleNamespace(
        image_shape=(8, 8, 1),
        spec="digits",
        name="digits",
        y_train=np.zeros(1400),
        y_test=np.zeros(397),
        num_classes=10,
    )
    bench: Any = SimpleNamespace(
        study=SimpleNamespace(name="digits-plain-1"),
        images=SimpleNamespace(dataset=dataset),
        wishes=Wishes(recipe=recipe),
        devices=SimpleNamespace(train="cpu"),
        backend="cpu",
    )
    candidate = Candidate(7, "k", net(), 0.0)
    units = tuple(Unit(candidate, kind, lambda n, m: 30.0) for kind in ("cnn", "kernel"))
    return Plan(bench, (candidate,), (), units, Sizes(1400, 900, 397, ("kernels get less",)), ("[not markup]",))


def shown(terminal: bool, recipe: str = "standard") -> str:
    console = Console(file=io.StringIO(), width=80, force_terminal=terminal)
    the_plan = plan(recipe)
    with ValidationView(console, "runs/nas.db") as view:
        view.measures(0, 2)
        view.begins(the_plan)
        for one, found in zip(
            the_plan.units, (validation("k", 0.98, "cnn", recipe), validation("k", 0.99, "kernel", None)), strict=True
        ):
            view.unit_begins(one, 30.0)
            for fraction in (0.2, 0.6, 1.0):
                view.progress(fraction)
            view.unit_ends(one, found)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_off_a_terminal_there_are_plain_lines() -> None:
    body = shown(terminal=False)
    assert "\x1b" not in body and "\r" not in body
    lines = body.splitlines()
    assert "note: [not markup]" in lines and "note: kernels get less" in lines
    assert "predicted: 30 s for 1 CNNs (standard recipe): 1,400 images, 15 epochs, width 64, on cpu" in lines
    assert "predicted: 60 s in all" in lines
    assert any(re.match(r"1/2  trial 7 +CNN standard +98.00 ± 0.50 %  12 s \(predicted 30 s\)", line) for line in lines)
    assert "a grid of 12 each" in shown(terminal=False, recipe="paper")
    assert "(best on test 99.50 %)" in shown(terminal=False, recipe="paper")


def test_on_a_terminal_the_bar_leaves_nothing_behind() -> None:
    body = shown(terminal=True)
    assert "── digits-plain-1 · digits 8x8x1 · validation · CNNs on cpu · kernels on cpu" in body
    assert "trial 7  CNN" in body and "left" in body
    assert body.rstrip().endswith("\x1b[2K") or "\x1b[2K" in body
