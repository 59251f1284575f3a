"""The candidates of a search on a Dask cluster: the scores of one process, whoever dies, and errors in one line."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run, runner
from plain_nets import plain

from nas_cntk.errors import BackendUnavailable, KernelError
from nas_cntk.scoring import score_architecture

distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed (the extra cluster)")

from nas_cntk.cluster import Candidates, candidates, candidates_of, open_cluster  # noqa: E402

SMALL = ("--subset", "60", "--holdout", "60", "--quiet")
SPACE = """
from nas_cntk import Builder

def propose(trial, image_shape):
    b = Builder()
    x = b.relu(b.conv(b.input(), trial.suggest_categorical("kernel", [1, 3, 5, 7])))
    b.dense(b.flatten(x) if trial.suggest_categorical("flat", [True, False]) else b.global_avg_pool(x))
    return b.build()
"""


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with open_cluster("local:2") as opened:
        yield opened


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.py").write_text(SPACE)
    return runner(monkeypatch, capsys)


def images() -> tuple[Any, ...]:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((80, 6, 6, 2)).astype(np.float32), rng.integers(0, 3, 80)
    return x[:50], y[:50], x[50:], y[50:]


def scored(cluster: Candidates, family: list[Any], **settings: Any) -> list[Any]:
    wanted = {"score": ("holdout_accuracy", "loo_mse"), "num_classes": 3, **settings}
    return cluster.score(family, images(), wanted, None, lambda _: None, lambda: False)


def test_scores_are_those_of_one_process(client: Any) -> None:
    family = [plain(2), plain(3, "global"), plain(1)]
    there = scored(Candidates(client), family)
    here = [
        score_architecture(arch, *images(), score=("holdout_accuracy", "loo_mse"), num_classes=3) for arch in family
    ]
    assert [one.values for one in there] == [one.values for one in here]
    assert [one.key for one in there] == [arch.key for arch in family]
    for one, other in zip(there, here, strict=True):
        assert np.array_equal(one.holdout_correct, other.holdout_correct)


def test_where_one_fails_the_others_are_kept_for_when_they_are_asked_for_again(client: Any) -> None:
    cluster = Candidates(client)
    family = [plain(2), plain(3)]
    broken = [family[0], Unreadable(), family[1]]
    with pytest.raises(Exception, match="JSON"):
        scored(cluster, broken)
    assert set(cluster._kept) == {arch.key for arch in family}
    submitted: list[Any] = []
    cluster.client = NoSubmit(submitted)
    assert [one.key for one in scored(cluster, family[:1])] == [family[0].key]
    assert not submitted


class Unreadable:
    key = "unreadable"

    def to_json(self) -> str:
        return "{"


class NoSubmit:
    def __init__(self, calls: list[Any]) -> None:
        self.submit = lambda *what, **how: calls.append(what)
        self.cancel = lambda *what, **how: None


def test_a_killed_worker_costs_its_candidates_alone(client: Any) -> None:
    done: list[float] = []

    def progress(fraction: float) -> None:
        if not done:
            os.kill(min(client.run(os.getpid).values()), signal.SIGKILL)
        done.append(fraction)

    family = [plain(depth, head) for depth in range(1, 9) for head in ("flatten", "global")]
    wanted = {"score": ("holdout_accuracy",), "num_classes": 3}
    there = Candidates(client).score(family, images(), wanted, None, progress, lambda: False)
    here = [score_architecture(arch, *images(), num_classes=3) for arch in family]
    assert [one.values for one in there] == [one.values for one in here]
    assert done[-1] == 1.0
    client.wait_for_workers(2, timeout=60)


def test_a_candidate_whose_workers_always_die_is_a_failure(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client.wait_for_workers(2, timeout=60)
    # Made of text, so that it travels as it is, and no worker looks for this file.
    monkeypatch.setattr(candidates, "_scored", eval("lambda *_: __import__('os')._exit(1)", {}))
    cluster = Candidates(client)
    with pytest.raises(KernelError, match="the workers of a candidate died again and again"):
        scored(cluster, [plain(2)])
    monkeypatch.undo()
    cluster.client = NoSubmit(submitted := [])
    with pytest.raises(KernelError, match="again and again"):
        scored(cluster, [plain(2)])
    assert not submitted, "it costs no more workers"
    client.wait_for_workers(2, timeout=60)
    assert len(scored(Candidates(client), [plain(2)])) == 1


def test_cancelled_it_ends_at_once(client: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        Candidates(client).score([plain(2)], images(), {"num_classes": 3}, None, lambda _: None, lambda: True)


def test_without_workers_it_ends_with_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "PATIENCE", 1.0)
    with (
        distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=None, silence_logs=50) as cluster,
        distributed.Client(cluster) as alone,
    ):
        scoring = Candidates(alone)
        assert len(scored(scoring, [plain(1)])) == 1
        cluster.scale(0)
        while alone.nthreads():
            time.sleep(0.05)
        with pytest.raises(BackendUnavailable, match="no workers any more|takes images"):
            scored(scoring, [plain(2)])


def test_a_search_on_a_cluster_is_that_of_one_process(run: Run) -> None:
    asked = ("--space", "small.py", "--trials", "8", "--seed", "3", "--no-siblings", "--batch", "2", *SMALL)
    assert run("search", *asked, "--study", "here").code == 0
    assert run("search", *asked, "--study", "there", "--cluster", "local:2").code == 0
    boards = []
    for study in ("here", "there"):
        rows = run("leaderboard", "--json", "--study", study).json()
        boards.append(
            [
                (row["ordinal"], row["key"], row["state"], row["scores"])
                for row in sorted(rows, key=lambda row: row["ordinal"])
            ]
        )
    assert boards[0] == boards[1] and len(boards[0]) == 8


def test_several_processes_share_a_cluster_and_resume_goes_on_there(run: Run) -> None:
    asked = ("--space", "small.py", "--study", "s", *SMALL)
    with candidates_of("local:2", "auto") as cluster:
        assert cluster is not None
        result = run("search", *asked, "--trials", "6", "--workers", "2", "--cluster", cluster.address)
        assert result.code == 0, result.err
        result = run("resume", "--study", "s", "--trials", "9", "--quiet", "--cluster", cluster.address)
        assert result.code == 0, result.err
    rows = run("leaderboard", "--json", "--study", "s").json()
    assert sorted(row["ordinal"] for row in rows) == list(range(9))


def test_what_a_cluster_cannot_do_is_said_before_anything_is_recorded(run: Run, tmp_path: Path) -> None:
    asked = ("search", "--space", "small.py", "--trials", "2", *SMALL)
    result = run(*asked, "--cluster", "local:1", "--prune-level", "0.05")
    assert result.code != 0 and "--prune-level compares candidates as they are scored" in result.err
    result = run(*asked, "--cluster", "nowhere")
    assert result.code != 0 and "--cluster must be local:N or a scheduler's address" in result.err
    assert run("studies", "list", "--json").json() == []
    asked = ("search", "--space", "nasbench201", "--score", "synflow", "--trials", "1", *SMALL)
    result = run(*asked, "--study", "t", "--cluster", "local:1")
    assert result.code != 0 and "synflow are scores of networks that space nasbench201 builds itself" in result.err
