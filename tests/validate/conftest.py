"""What tests of validation share."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from command_line import Run, runner


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread of torch: the maps here are too small for more, which only wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


SPACE = """
from nas_cntk import Builder

def propose(trial, image_shape):
    b = Builder()
    x = b.input()
    for layer in range(trial.suggest_int("depth", 1, 2)):
        x = b.relu(b.conv(x, trial.suggest_categorical(f"kernel_{layer}", [1, 3, 5])))
    b.dense(b.global_avg_pool(x) if trial.suggest_categorical("pooled", [False, True]) else b.flatten(x))
    return b.build()
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return runner(monkeypatch, capsys)


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a searched study of ten trials on small images of two classes; tests work on copies."""
    from nas_cntk.search import session
    from nas_cntk.search.settings import Options, Problem

    folder = tmp_path_factory.mktemp("searched")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((260, 4, 4, 1)).astype(np.float32)
    y = rng.integers(0, 2, 260)
    x[:, :2] += 0.5 * (2 * y - 1)[:, None, None, None]
    np.savez(folder / "images.npz", x=x[:200], y=y[:200], x_test=x[200:], y_test=y[200:])
    (folder / "small.py").write_text(SPACE)
    problem = Problem(f"npz:{folder}/images.npz", None, str(folder / "small.py"), 60, 60, 0)
    session.search(str(folder / "nas.db"), "small", problem, Options(10, sampler="random"), Quiet())
    return folder


class Quiet:
    """A screen that shows nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


@pytest.fixture
def db(searched: Path, tmp_path: Path) -> Path:
    """A copy of the searched study's database, in this test's folder."""
    return Path(shutil.copy(searched / "nas.db", tmp_path / "nas.db"))
