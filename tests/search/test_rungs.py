"""Rungs: the paired test, candidates dropped by it and by nothing else, and what is recorded of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import Run, runner
from scipy.stats import binomtest

from nas_cntk import Builder, data, scoring
from nas_cntk.search import rungs


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return runner(monkeypatch, capsys)


def test_the_p_value_is_that_of_the_sign_test() -> None:
    rng = np.random.default_rng(0)
    for share in (0.02, 0.1, 0.5):
        best, candidate = rng.random(300) < 0.9, rng.random(300) < 0.9 - share
        lost, won = int((best & ~candidate).sum()), int((candidate & ~best).sum())
        expected = binomtest(lost, lost + won, alternative="greater").pvalue
        assert rungs.p_value(best, candidate) == pytest.approx(expected)
    assert rungs.p_value(best, best) == 1 and rungs.p_value(~best, best) == pytest.approx(1)


def test_rungs_take_one_score_of_the_kernel_alone() -> None:
    assert rungs.applies(("nngp_holdout_accuracy",)) and rungs.applies(("alignment_gain",))
    assert not any(rungs.applies((name,)) for name in ("flops", "jacov", "combined"))
    assert not rungs.applies(("holdout_accuracy", "flops"))
    assert rungs.sizes("holdout_accuracy", (25, 50, 100, 200)) == (25, 50, 100)
    assert rungs.sizes("loo_mse", (25, 50, 100, 200)) == (100,) and rungs.sizes("loo_mse", (7,)) == ()


@pytest.mark.parametrize("name, sign", [("alignment_gain", 1.0), ("loo_mse", -1.0)])
def test_a_quantile_counts_from_the_worse_end(name: str, sign: float) -> None:
    others = [sign * value for value in (1.0, 2, 3, 4, 5)]
    bound = rungs.quantile(name, [*others, float("nan"), None], 0.25)
    assert bound == pytest.approx(sign * 2)
    assert [rungs.is_behind(name, sign * value, bound) for value in (1.9, 2, 2.1)] == [True, False, False]
    assert not rungs.is_behind(name, float("nan"), bound)
    assert rungs.quantile(name, others[1:], 0.25) is None


def test_a_kernel_that_grows_is_the_kernel_at_once() -> None:
    split = data.split(data.standardise(data.load("digits")), 80, 60, 0)
    images = split.x, split.y, split.x_holdout, split.y_holdout
    b = Builder()
    b.dense(b.global_avg_pool(b.relu(b.conv(b.relu(b.conv(b.input(), 3)), 3))))
    arch = b.build()
    seen: list[int] = []

    def at_rung(found: scoring.ArchitectureScores) -> bool:
        seen.append(found.subset)
        alone = scoring.score_architecture(arch, split.x[: found.subset], split.y[: found.subset], *images[2:])
        assert alone.values["holdout_mse"] == pytest.approx(found.values["holdout_mse"], rel=1e-4)
        assert found.entry_layers > 0 and found.holdout_correct.shape == (60,)
        return found.subset == 40

    fractions: list[float] = []
    options = {"score": "holdout_accuracy,nngp_loo_mse", "rungs": (10, 20, 40)}
    whole = scoring.score_architecture(arch, *images, score=options["score"])
    grown = scoring.score_architecture(arch, *images, **options, progress=fractions.append)
    for name, value in whole.values.items():
        assert grown.values[name] == pytest.approx(value, rel=1e-4), name
    assert grown.subset == 80 and fractions == sorted(fractions) and fractions[-1] == pytest.approx(1)
    assert grown.entry_layers == pytest.approx(whole.entry_layers)
    stopped = scoring.score_architecture(arch, *images, **options, at_rung=at_rung)
    assert seen == [10, 20, 40] and stopped.subset == 40
    assert stopped.entry_layers < 0.6 * whole.entry_layers


def test_a_family_is_scored_as_its_members_are() -> None:
    split = data.split(data.standardise(data.load("digits")), 60, 40, 0)
    images = split.x, split.y, split.x_holdout, split.y_holdout
    archs = []
    for depth in (1, 2, 3):
        b = Builder()
        x = b.input()
        for _ in range(depth):
            x = b.relu(b.conv(x, 3))
        b.dense(b.flatten(x))
        archs.append(b.build())
    found = scoring.score_family(archs, *images, score="loo_mse", rungs=(20,), at_rung=lambda scores: [1])
    assert [one.subset for one in found] == [60, 20, 60]
    for arch, one in zip(archs, found, strict=True):
        assert one.key == arch.key
        if one.subset == 60:
            alone = scoring.score_architecture(arch, *images, score="loo_mse")
            assert one.values["loo_mse"] == pytest.approx(alone.values["loo_mse"], rel=1e-4)
    assert sum(one.entry_layers for one in found) < sum(
        scoring.score_architecture(arch, *images).entry_layers for arch in archs
    )


SPACE = """
from nas_cntk import Builder

def propose(trial, image_shape):
    kernel = trial.suggest_categorical("kernel", [1, 3, 5])
    b = Builder()
    x = b.relu(b.conv(b.input(), kernel))
    b.dense(b.global_avg_pool(x) if kernel == 1 else b.flatten(x))
    return b.build()
"""


def test_a_search_drops_what_is_clearly_worse(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SPACE)
    # A 1x1 conv under global pooling sees how often each gray is there: far behind, as a test at any level finds.
    common = ("search", "--space", "mine.py", "--sampler", "random", "--db", "r.db", "--trials", "12")
    small = ("--subset", "200", "--holdout", "200", "--seed", "0")
    result = run(*common, *small, "--prune-level", "0.2", "--study", "a")
    assert result.code == 0 and "candidates are dropped at rungs 25, 50, 100 of 200 images" in result.out
    rows = run("leaderboard", "--study", "a", "--db", "r.db", "--json").json()
    dropped = [row for row in rows if row["state"] == "PRUNED"]
    assert len(rows) == 12 and dropped and all(row["reason"].startswith("rung ") for row in dropped)
    assert {row["subset"] for row in dropped} <= {50, 100} and rows[0]["subset"] == 200
    assert all(row["proxy_accuracy"] <= rows[0]["proxy_accuracy"] for row in dropped)

    import optuna

    study = optuna.load_study(study_name="a", storage="sqlite:///r.db")
    reported = [trial.intermediate_values for trial in study.trials]
    assert {25, 50} <= set.union(*(set(values) for values in reported))

    never = run(*common, *small, "--study", "b")
    assert "dropped" not in never.out
    same = {row["key"] for row in run("leaderboard", "--study", "b", "--db", "r.db", "--json").json()}
    assert same == {row["key"] for row in rows}
    several = run(
        *common[:-1], "2", *small, "--prune-level", "0.2", "--score", "holdout_accuracy,flops", "--study", "c"
    )
    assert "no candidate is dropped early" in several.out
    changed = run("resume", "--study", "b", "--db", "r.db", "--trials", "14", "--prune-level", "0.1")
    assert changed.code == 0 and "prune_level" in changed.out
    assert run(*common, "--prune-level", "0.7").code == 2


def test_a_search_by_another_score_drops_what_is_behind_the_quantile(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SPACE.replace("[1, 3, 5]", "[1, 3, 5, 7, 9, 11, 13, 15]"))
    search = ("search", "--space", "mine.py", "--sampler", "random", "--db", "r.db", "--trials", "12", "--seed", "0")
    small = ("--subset", "80", "--holdout", "40", "--score", "loo_mse", "--no-siblings")
    result = run(*search, *small, "--prune-level", "0.5", "--study", "a")
    assert result.code == 0 and "candidates are dropped at rungs 40 of 80 images, behind the 0.5 quantile" in result.out
    rows = run("leaderboard", "--study", "a", "--db", "r.db", "--json").json()
    dropped = [row for row in rows if row["state"] == "PRUNED"]
    assert dropped and all(row["subset"] == 40 and "behind the 0.5 quantile" in row["reason"] for row in dropped)
    half: list[float] = []
    for row in sorted(rows, key=lambda row: row["trial"]):
        if "duplicate" in (row["reason"] or ""):
            continue
        document = run("show", str(row["trial"]), "--db", "r.db", "--study", "a", "--json").json()
        value = document["rungs"][0]["scores"]["loo_mse"]
        assert (row in dropped) == (len(half) >= 5 and value > np.quantile(half, 0.5))
        half.append(value)
    never = run(*search, *small, "--score", "combined", "--prune-level", "0.5", "--study", "b", "--trials", "1")
    assert "no candidate is dropped early: that takes one score, and one of the kernel alone" in never.out


def test_show_and_leaderboard_know_rungs_and_columns(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SPACE)
    search = ("search", "--space", "mine.py", "--sampler", "random", "--db", "r.db", "--trials", "6", "--study", "a")
    assert run(*search, "--subset", "200", "--holdout", "200", "--prune-level", "0.2").code == 0
    board = ("leaderboard", "--db", "r.db")
    rows = run(*board, "--json").json()
    best, dropped = rows[0], rows[-1]
    shown = run("show", str(best["trial"]), "--db", "r.db")
    assert "rung 25 " in shown.out and "rung 200 " in shown.out
    document = run("show", str(dropped["trial"]), "--db", "r.db", "--json").json()
    assert [one["subset"] for one in document["rungs"]] == [25, 50]

    by_size = run(*board, "--sort", "params", "--json").json()
    assert [row["params"] for row in by_size] == sorted(row["params"] for row in rows)
    by_trial = run(*board, "--sort", "trial", "--columns", "trial,holdout_mse,state", "--csv", "-").out.splitlines()
    assert by_trial[0] == "trial,holdout_mse,state" and [line.split(",")[0] for line in by_trial[1:]] == list("012345")
    assert run(*board, "--csv", "all.csv").code == 0
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 7
    table = run(*board, "--columns", "trial,proxy_accuracy,seconds,params").out
    assert "proxy_accuracy" in table and "%" in table
    for shown, name in (("time", "seconds"), ("held out", "proxy_accuracy")):
        assert run(*board, "--sort", shown, "--json").json() == run(*board, "--sort", name, "--json").json()
    for option in ("--sort", "--columns"):
        unknown = run(*board, option, "parms")
        assert unknown.code == 2 and "no column 'parms'; did you mean params?" in unknown.err
