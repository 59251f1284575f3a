"""`--devices`: GPUs by number, from the command line to the launches, with a stand-in for CuPy."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import Run, runner

from nas_cntk import Architecture
from nas_cntk.errors import UsageError
from nas_cntk.kernels import cost
from nas_cntk.kernels.filling import task_of
from nas_cntk.kernels.gram import GramFamily
from nas_cntk.machine import gpu_numbers
from nas_cntk.search.bench import measured_rate
from nas_cntk.search.settings import Manner
from nas_cntk.search.workers import Order, _share

SMALL = ("--subset", "20", "--holdout", "20", "--image-size", "4")
NET = """{"nodes": [{"op": "input"}, {"op": "conv", "kernel": 3, "stride": 1, "trainable": true, "inputs": [0]},
{"op": "relu", "inputs": [1]}, {"op": "flatten", "inputs": [2]}, {"op": "dense", "trainable": true, "inputs": [3]}]}"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.json").write_text(NET)
    monkeypatch.setattr(cost, "measure_rate", lambda backend, devices: 1e9)  # a million pairs, on the CPU
    return runner(monkeypatch, capsys)


@pytest.mark.parametrize(
    "text, numbers",
    [(None, ()), ("auto", ()), ("cuda", ()), ("0", (0,)), ("1,0", (1, 0)), ("cuda:0, cuda:1", (0, 1)), ("2,2", (2,))],
)
def test_cuda_numbers_of_gpus(text: str | None, numbers: tuple[int, ...]) -> None:
    assert gpu_numbers(text) == numbers


@pytest.mark.parametrize("text", ["", "x", "-1", "0,", "1000", "cpu", "0;1", "٣", "1" * 5000])
def test_cuda_other_words_are_no_gpus(text: str) -> None:
    with pytest.raises(UsageError, match="--devices .* names no GPUs; give their numbers"):
        gpu_numbers(text)


def used(cupy: Any) -> set[int]:
    return {number for number, _ in cupy.launches}


@pytest.mark.parametrize("devices, gpus", [((), {0}), (("--devices", "1"), {1}), (("--devices", "0,1"), {0, 1})])
@pytest.mark.parametrize("command", ["score", "search"])
def test_cuda_devices_of_the_command_line(
    command: str, devices: tuple[str, ...], gpus: set[int], fake_cupy: Any, run: Run
) -> None:
    what = ("net.json",) if command == "score" else ("--trials", "1", "--no-siblings", "--quiet")
    result = run(command, *what, *SMALL, "--backend", "cuda", *devices)
    assert result.code == 0, result.err
    assert used(fake_cupy) == gpus


def test_cuda_devices_are_of_one_run(fake_cupy: Any, run: Run) -> None:
    common = ("--backend", "cuda", "--study", "s", "--quiet")
    assert run("search", "--trials", "1", "--no-siblings", *SMALL, *common, "--devices", "1").code == 0
    fake_cupy.launches.clear()
    assert run("resume", "--trials", "2", *common).code == 0
    assert used(fake_cupy) == {0}
    fake_cupy.launches.clear()
    assert run("resume", "--trials", "3", *common, "--devices", "cuda:1").code == 0
    assert used(fake_cupy) == {1}


@pytest.mark.parametrize(
    "arguments, code, says",
    [
        (("--devices", "2", "--backend", "cuda"), 1, "2 GPUs, numbers 0 to 1"),
        (("--devices", "0", "--backend", "cpu"), 1, "backend cpu uses no GPU"),
        (("--devices", "first"), 2, "names no GPUs"),
        (("--devices", "0", "--cluster", "local:1"), 2, "leave one out"),
    ],
)
def test_cuda_devices_that_cannot_be_are_one_line(
    arguments: tuple[str, ...], code: int, says: str, fake_cupy: Any, run: Run
) -> None:
    if "--cluster" in arguments:
        pytest.importorskip("distributed")
    result = run("search", *SMALL, *arguments)
    assert result.code == code and says in result.err and len(result.err.splitlines()) == 1
    assert re.match("error: (database runs/nas.db holds no study yet|there is no database)", run("leaderboard").err)


@pytest.mark.parametrize(
    "devices, count, shares",
    [
        ((), 2, [(), ()]),
        ((0, 1), 2, [(0,), (1,)]),
        ((3, 1, 2), 2, [(3, 2), (1,)]),
        ((4, 5), 5, [(4,), (5,), (4,), (5,), (4,)]),
    ],
)
def test_cuda_workers_share_the_gpus(devices: tuple[int, ...], count: int, shares: list[tuple[int, ...]]) -> None:
    order = Order("db", "s", "digits", "cuda", 1.0, Manner(), None, None, devices)
    assert [_share(order, place, count).devices for place in range(count)] == shares
    assert Order.read(order.line()) == order


def test_cuda_the_rate_is_that_of_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(cost, "measure_rate", lambda backend, devices: asked.append((backend, devices)) or 1e9)
    one: Any = SimpleNamespace(backend="cuda", devices=(1, 0), needs_kernel=True)
    assert measured_rate(one) == 1e9 and asked == [("cuda", (1, 0))]


@pytest.mark.parametrize("devices, gpus", [("auto", {0}), ("cuda:1", {1}), ("cuda:0, cuda:1", {0, 1})])
def test_cuda_devices_of_the_papers_kernels(devices: str, gpus: set[int], fake_cupy: Any, run: Run) -> None:
    sizes = ("--train", "20", "--test", "11", "--image-size", "4", "--depths", "3", "--no-plot")
    result = run("paper", "table1", "--columns", "CNTK-V", *sizes, "--backend", "cuda", "--devices", devices)
    assert result.code == 0, result.err
    assert used(fake_cupy) == gpus


@pytest.mark.parametrize(
    "devices, code, says", [("cuda:0,cuda:7", 1, "2 GPUs, numbers 0 to 1"), ("cuda:0,cpu", 2, "names no GPUs")]
)
def test_cuda_devices_that_the_papers_kernels_do_not_have(
    devices: str, code: int, says: str, fake_cupy: Any, run: Run
) -> None:
    result = run("paper", "table1", "--columns", "CNTK-V", "--no-plot", "--backend", "cuda", "--devices", devices)
    assert result.code == code and says in result.err and len(result.err.splitlines()) == 1


def test_cuda_matrices_of_a_cluster_are_of_no_gpu_here() -> None:
    arch = Architecture.from_json(NET)
    task = task_of([arch], "ntk", "cuda", "float32", (1,), (4, 4, 1), 2**30)
    for engine, gpus in ((None, (1,)), (object(), ())):
        family: Any = GramFamily([arch], task, None, engine)  # type: ignore[arg-type]
        assert family[0].gpus == gpus
