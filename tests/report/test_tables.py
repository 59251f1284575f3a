"""What is printed fits 80 columns and says what it should."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console, RenderableType

from nas_cntk.architecture import Architecture, Builder
from nas_cntk.records.studies import StudyRow
from nas_cntk.records.trials import Finished, Score, Verdict
from nas_cntk.report import tables, text
from nas_cntk.report.describe import listing, summary
from nas_cntk.report.rows import Row, row_of


def printed(thing: RenderableType, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(thing)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def deep(layers: int = 21) -> Architecture:
    b = Builder()
    x = b.conv(b.input(), 3)
    for _ in range(layers - 1):
        x = b.add(b.conv(b.relu(x), 5), x)
    b.dense(b.flatten(b.avg_pool(b.avg_pool(b.relu(x), 2, 2), 3)))
    return b.build()


def rows() -> tuple[list[Row], dict[str, Architecture]]:
    arch = deep()
    values = {"holdout_accuracy": 0.98765, "flops": 123456789.0, "log_marginal_likelihood": -1234.5}
    result = {"values": values, "proxy_accuracy": 0.98765, "backend": "cpu", "ridge": 0.0, "jitter": 1e-9}
    score = Score(arch.key, 2000, 2000, "", result, None)
    complete = Verdict("COMPLETE", key=arch.key, subset=2000, params=12_345_678, flops=123_456_789, seconds=123.4)
    copy = Verdict("COMPLETE", "duplicate of trial 0", arch.key, 0, None, None, 1, 1, 2000, 1.0, 0.0)
    pruned = Verdict("PRUNED", "cost: predicted 1234 s, the limit is 300 s [not markup]", "k", params=1, flops=1)
    made = [(complete, score), (copy, score), (pruned, None)]
    return [row_of(Finished(n, n, v, s, None, None)) for n, (v, s) in enumerate(made)], {arch.key: arch}


@pytest.mark.parametrize("directions", [{"holdout_accuracy": "maximize"}, {"log_marginal_likelihood": "maximize"}])
def test_the_leaderboard_fits_80_columns(directions: dict[str, str]) -> None:
    made, architectures = rows()
    lines = printed(tables.leaderboard(made, directions, architectures)).splitlines()
    assert max(map(len, lines)) <= 80
    body = "\n".join(lines)
    assert "123M" in body and "12.3M" in body and "2 min" in body
    assert "= trial 0" in body and "cost: predicted" in body
    if "holdout_accuracy" in directions:
        assert "98.77 ± 0.25 %" in body


def test_a_score_that_is_no_accuracy_has_the_accuracy_beside_it() -> None:
    made, architectures = rows()
    made = [replace(row, scores={**row.scores, "alignment_gain": 0.0312}) for row in made]
    lines = printed(tables.leaderboard(made, {"alignment_gain": "maximize"}, architectures)).splitlines()
    assert "alignment gain  held out" in lines[0] and "0.0312   98.77 %" in lines[2]
    assert max(map(len, lines)) <= 80


def test_a_board_ranked_by_size_has_each_size_once() -> None:
    made, architectures = rows()
    head = printed(tables.leaderboard(made, {"flops": "minimize"}, architectures)).splitlines()[0]
    assert head.lower().split() == ["#", "trial", "params", "flops", "time", "architecture"]


@pytest.mark.parametrize("directions", [{"holdout_accuracy": "maximize"}, {"flops": "minimize"}])
def test_ties_are_marked_in_a_column_of_their_own(directions: dict[str, str]) -> None:
    made, architectures = rows()
    lines = printed(tables.leaderboard(made, directions, architectures, 80, frozenset({1}))).splitlines()
    assert max(map(len, lines)) <= 80 and lines[3].count("*") == 1 and "*" not in lines[2] + lines[4]
    places = {line.index("98.77 ± 0.25 %") for line in lines[2:4]} if "holdout_accuracy" in directions else {0}
    assert len(places) == 1, "scores stand below each other"
    assert "*" not in printed(tables.leaderboard(made, directions, architectures))


def test_in_a_wide_terminal_nothing_is_cut() -> None:
    made, architectures = rows()
    body = printed(tables.leaderboard(made, {"holdout_accuracy": "maximize"}, architectures, 200), 200)
    assert "local 3 · 21 conv 3,5 · 1 pool · 20 add" in body
    assert "the limit is 300 s [not markup]" in body


def test_a_trial_shows_its_nodes_with_shapes() -> None:
    made, architectures = rows()
    arch = next(iter(architectures.values()))
    body = printed(tables.trial(made[0], arch, (32, 32, 3), 10))
    assert max(map(len, body.splitlines())) <= 80
    assert "98.77 ± 0.25 %" in body and "backend cpu; ridge 0, jitter 1e-09" in body
    assert body.count("12.3M") == 1, "size is shown once"
    assert listing(arch, (32, 32, 3))[1] == ("1", "conv 3x3", "0", "32x32")
    assert "avg_pool 2x2 stride 2" in body and "16x16x64" in body and "14x14x64" in body
    assert "├─● relu" in body and "●─╯ add" in body and "12544 features" in body
    assert "cost: predicted" in printed(tables.trial(made[2], None, (32, 32, 3), 10))


def test_the_list_of_studies_fits_80_columns() -> None:
    row = StudyRow(
        "cifar10-stages-1",
        "2026-01-02T03:04:05+00:00", 3, 30, "holdout_accuracy", "cifar10:" + "/very" * 30, "s", "tpe",
        True,
    )  # fmt: skip
    body = printed(tables.studies([row]))
    assert max(map(len, body.splitlines())) <= 80
    assert "cifar10-stages-1" in body and "3/30*" in body


def test_summaries() -> None:
    assert summary(deep()) == "local 3 · 21 conv 3,5 · 1 pool · 20 add"
    b = Builder()
    b.dense(b.global_avg_pool(b.relu(b.conv(b.input(), 3, stride=2))))
    assert summary(b.build()) == "global · 1 conv 3 · 1 stride"


@pytest.mark.parametrize(
    "seconds, shown",
    [(None, "-"), (0.04, "<0.1 s"), (9.94, "9.9 s"), (9.96, "10 s"), (119, "119 s"), (120, "2 min"),
     (7100, "118 min"), (7200, "2.0 h"), (200_000, "2 d")],
)  # fmt: skip
def test_durations(seconds: float | None, shown: str) -> None:
    assert text.duration(seconds) == shown


def test_commands_are_quoted_for_the_shell() -> None:
    assert text.command("show", "3", study="a b", db="x y.db") == "nas-cntk show 3 --study 'a b' --db 'x y.db'"
    assert text.command("search") == "nas-cntk search"


def test_scores_in_words() -> None:
    assert text.score("loo_accuracy", 0.5) == "50.00 %"
    assert text.score("nngp_holdout_accuracy", 1.0) == "100.00 %"
    assert text.score("flops", 1234.0) == "1.23k"
    assert text.score("loo_accuracy", 0.5, 0.0125) == "50.00 ± 1.25 %"
    assert text.score("alignment", None) == "-"
    assert text.count(999) == "999" and text.count(None) == "-"
