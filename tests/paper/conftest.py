"""The command line in an empty folder, and a bench on the digits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from command_line import Run, runner

from nas_cntk.paper.bench import Bench, Rate
from nas_cntk.paper.images import ImageSource
from nas_cntk.paper.wishes import Wishes
from nas_cntk.records.migrations import open_records


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Nets this small are faster on one thread, and many times so on a machine that does other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


MakeBench = Callable[..., Bench]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return runner(monkeypatch, capsys)


@pytest.fixture(scope="session")
def digits() -> ImageSource:
    return ImageSource("digits")


@pytest.fixture
def make_bench(tmp_path: Path, digits: ImageSource) -> Iterator[MakeBench]:
    """Makes a bench of some wishes; all of a test share a database."""
    records = open_records(str(tmp_path / "nas.db"), write=True)

    def make(**wishes: object) -> Bench:
        asked = Wishes(**wishes)  # type: ignore[arg-type]
        return Bench(records, tmp_path / "nas-paper", digits, asked, "cpu", Rate("cpu"), lambda: False)

    yield make
    records.close()
