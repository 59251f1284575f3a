"""Tiles on a Dask cluster: the same bits as one process, whoever dies or comes, and errors in one line."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import runner
from plain_nets import plain

from nas_cntk import gram, gram_family
from nas_cntk.errors import BackendUnavailable, KernelError, UsageError
from nas_cntk.kernels import budget
from nas_cntk.kernels.store import Store

distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed (the extra cluster)")

from nas_cntk.cluster import Tiles, engine_of, open_cluster  # noqa: E402
from nas_cntk.cluster.tiles import Queues  # noqa: E402
from nas_cntk.kernels.filling import Folder, Piece  # noqa: E402


def images(n: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal((n, 6, 6, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with open_cluster("local:2") as opened:
        yield opened


def test_the_bits_are_those_of_one_process_in_memory_on_disk_and_extended(client: Any, tmp_path: Path) -> None:
    archs, engine = [plain(2), plain(3, "global"), plain(2)], Tiles(client, side=16)
    alone = gram_family(archs, images(70), kind="both")
    there = gram_family(archs, images(70), kind="both", engine=engine)
    for one, other in zip(alone, there, strict=True):
        assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(one, other, strict=True))
    there.extend(images(30, 1))
    alone.extend(images(30, 1))
    for one, other in zip(alone.against(images(9, 2)), there.against(images(9, 2)), strict=True):
        assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(one, other, strict=True))

    whole = np.asarray(gram(plain(3), np.concatenate([images(70), images(30, 1)])))
    begun = gram(plain(3), images(70), store=tmp_path / "k", engine=engine)
    assert np.array_equal(np.asarray(begun), whole[:70, :70])
    begun.extend(images(30, 1))
    assert np.array_equal(np.asarray(begun), whole)
    assert np.array_equal(
        np.asarray(begun.against(images(9, 2))), np.asarray(gram(plain(3), whole_images()).against(images(9, 2)))
    )


def whole_images() -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.concatenate([images(70), images(30, 1)])


def test_a_worker_killed_and_one_added_in_mid_run_change_no_bit(client: Any) -> None:
    before = set(client.run(os.getpid).values())
    done: list[float] = []

    def meanwhile(fraction: float) -> None:
        if fraction > 0.15 and not done:
            os.kill(min(before), signal.SIGKILL)
        if fraction > 0.3 and len(done) == 1:
            client.cluster.scale(3)
        if fraction > 0.15 * (len(done) + 1):
            done.append(fraction)

    x = images(400)
    there = np.asarray(gram(plain(4, "global"), x, engine=Tiles(client, side=20), progress=meanwhile))
    assert np.array_equal(there, np.asarray(gram(plain(4, "global"), x)))
    client.wait_for_workers(3, timeout=60)
    after = set(client.run(os.getpid).values())
    assert len(after) == 3 and min(before) not in after, "nobody was killed, or nobody came: the test shows nothing"
    client.cluster.scale(2)


def test_images_that_only_a_dead_worker_held_are_sent_again(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "SIDES", (20, 20))
    client.wait_for_workers(2, timeout=60)
    killed: list[float] = []

    def meanwhile(fraction: float) -> None:
        if fraction > 0.2 and not killed:
            killed.append(fraction)
            for pid in client.run(os.getpid).values():
                os.kill(pid, signal.SIGKILL)  # every worker: nothing of the images is left

    x = images(200)
    there = gram(plain(3), x, store=tmp_path / "k", engine=Tiles(client), progress=meanwhile)
    assert killed and np.array_equal(np.asarray(there), np.asarray(gram(plain(3), x)))


def test_errors_of_the_kernel_come_home_and_cancelling_ends_it(client: Any) -> None:
    client.wait_for_workers(2, timeout=60)
    huge = images(40) * np.float32(1e30)
    with pytest.raises(KernelError, match="float64"):
        gram(plain(2), huge, engine=Tiles(client, side=16))
    with pytest.raises(KeyboardInterrupt):
        gram(plain(2), images(60), engine=Tiles(client, side=16), cancelled=lambda: True)
    assert np.array_equal(
        np.asarray(gram(plain(2), images(30), engine=Tiles(client, side=16))), np.asarray(gram(plain(2), images(30)))
    )


@pytest.mark.parametrize("shared", [True, False])
def test_workers_write_what_is_on_a_disk_that_they_see(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    client.wait_for_workers(2, timeout=60)
    here: list[tuple[int, int]] = []
    write = Store.write

    def watched(self: Store, name: str, i: int, j: int, block: Any) -> None:
        here.append((i, j))
        write(self, name, i, j, block)

    monkeypatch.setattr(Store, "write", watched)
    monkeypatch.setattr(budget, "SIDES", (16, 16))
    if not shared:
        monkeypatch.setattr("nas_cntk.cluster.tiles._may_write", lambda mark: False)
    alone, seen = gram_family([plain(2)], images(70), kind="both"), []
    there = gram_family(
        [plain(2)], images(70), kind="both", store=tmp_path / "k", engine=Tiles(client), progress=seen.append
    )
    for one, other in zip(alone[0], there[0], strict=True):
        assert np.array_equal(np.asarray(one), np.asarray(other))
    assert seen[-1] == 1
    tiles = [(i, j) for i in range(5) for j in range(i, 5)]
    assert sorted(here) == ([] if shared else sorted(2 * tiles))
    here.clear()
    there.extend(images(30, 1))  # the last column of tiles is half there: what is old is kept here
    whole = gram_family([plain(2)], whole_images(), kind="both")
    for one, other in zip(whole[0], there[0], strict=True):
        assert np.array_equal(np.asarray(one), np.asarray(other))
    assert {j for _, j in here} == ({4} if shared else {4, 5, 6})
    assert not list((tmp_path / "k").glob("*.partial"))


def test_a_tile_that_does_not_appear_is_an_error(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client.wait_for_workers(2, timeout=60)
    monkeypatch.setattr("nas_cntk.kernels.filling.APPEARANCE", 0.3)
    monkeypatch.setattr(Store, "has", lambda *given: False)
    with pytest.raises(KernelError, match="but it is not in the store"):
        gram(plain(2), images(30), store=tmp_path / "k", engine=Tiles(client))


def test_a_worker_that_sees_no_store_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="does not see the store"):
        Folder(tmp_path / "k", 16, ("m",)).write(0, 0, [np.zeros((16, 16), dtype=np.float32)])
    assert not (tmp_path / "k").exists()


def pieces(blocks: int) -> list[Piece]:
    return [Piece(i, j, (i, i + 1), (j, j + 1), 0, i == j) for i in range(blocks) for j in range(i, blocks)]


@pytest.mark.parametrize("workers", [1, 7, 30])
def test_a_worker_needs_few_images_and_each_piece_is_taken_once(workers: int) -> None:
    names = [f"w{k}" for k in range(workers)]
    queues, given, taken = Queues(pieces(40), names), {name: [] for name in names}, 0
    while queues:
        for name in names:
            if queues:
                given[name].append(queues.take(name))
                taken += 1
    assert taken == 40 * 41 // 2
    assert len({(one.i, one.j) for mine in given.values() for one in mine}) == taken
    most = max(len({k for one in mine for k in (one.i, one.j)}) for mine in given.values())
    assert most <= min(40, 3.2 * (taken / workers) ** 0.5 + 2)


def test_who_has_nothing_left_takes_half_of_what_another_has() -> None:
    queues = Queues(pieces(8), ["slow", "fast"])
    first = [queues.take("fast") for _ in range(18)]
    assert len(queues._queues["slow"]) == 18
    first.append(queues.take("fast"))
    assert len(queues._queues["slow"]) == 9
    first.append(queues.take("new"))
    assert len(queues._queues["slow"]) == 4 or len(queues._queues["fast"]) == 4
    while queues:
        first.append(queues.take("new"))  # of the others, who are never heard of again
    assert sorted((one.i, one.j) for one in first) == [(one.i, one.j) for one in pieces(8)]


def test_tiles_on_disk_are_small_enough_for_every_worker_to_have_some(client: Any, tmp_path: Path) -> None:
    client.wait_for_workers(2, timeout=60)
    engine = Tiles(client)
    assert [engine.side_on_disk(n, 2048) for n in (200_000, 12_000, 6_000, 3_000, 100)] == [2048, 2048, 1024, 512, 256]
    assert engine.side_on_disk(100, 64) == 64
    assert gram(plain(2), images(20), store=tmp_path / "k", engine=engine)._place.side == 256


@pytest.mark.parametrize("spec", ["", "local", "local:0", "local:many", "tcp:", "2"])
def test_what_is_no_cluster_is_refused(spec: str) -> None:
    with pytest.raises(UsageError, match="--cluster must be"), open_cluster(spec):
        pass


def test_a_scheduler_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas_cntk.cluster.client.PATIENCE", 1)
    with pytest.raises(BackendUnavailable, match="no Dask scheduler answers") as caught, engine_of("tcp://127.0.0.1:9"):
        pass
    assert "\n" not in str(caught.value)


def test_validate_and_paper_take_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = runner(monkeypatch, capsys)
    small = ("--subset", "60", "--holdout", "60", "--trials", "1", "--study", "one")
    assert run("search", *small, "--quiet").code == 0
    assert run("validate", "0", "--only", "kernel", "--train-images", "200", "--json").code == 0
    alone = run("show", "0", "--json").json()["validations"][0]
    wanted = ("--only", "kernel", "--train-images", "200", "--force", "--cluster", "local:2")
    assert run("validate", "0", *wanted).code == 0
    there = run("show", "0", "--json").json()["validations"][0]
    assert there["accuracy"] == alone["accuracy"] and there["finished"] != alone["finished"]
    cells = (
        "paper",
        "gp",
        "--train",
        "60",
        "--test",
        "40",
        "--depths",
        "3",
        "--columns",
        "CNTK-V",
        "--no-plot",
        "--json",
    )
    assert [row["state"] for row in run(*cells, "--cluster", "local:2").json()] == ["done"]
    assert "leave --cluster out" in run("validate", "0", "--only", "cnn", "--cluster", "local:2").err
