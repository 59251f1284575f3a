"""Studies to report: one whose names are hostile, and what is made of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from command_line import Run, runner
from hostile_study import SPACE, STUDY, Reported, images
from page_reader import Element, read_page


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread of torch: the maps here are too small for more."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Quiet:
    """A screen that shows nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


@pytest.fixture(scope="session")
def _searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from nas_cntk.search import session
    from nas_cntk.search.settings import Options, Problem

    folder = tmp_path_factory.mktemp("hostile")
    (x, y), (x_test, y_test) = images(160, 0), images(60, 1)
    np.savez(folder / "<img src=x>.npz", x=x, y=y, x_test=x_test, y_test=y_test)
    (folder / "space.py").write_text(SPACE)
    for name, scores in ((STUDY, ("holdout_accuracy",)), ("several", ("holdout_accuracy", "params", "loo_mse"))):
        problem = Problem(
            f"npz:{folder}/<img src=x>.npz", None, str(folder / "space.py"), 100, 100, 0, scores
        )  # more than there are
        session.search(str(folder / "nas.db"), name, problem, Options(14, sampler="random"), Quiet())
    return folder


@pytest.fixture(scope="session")
def _validated(_searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from nas_cntk.validate import session
    from nas_cntk.validate.wishes import Wishes

    folder = tmp_path_factory.mktemp("validated")
    shutil.copy(_searched / "nas.db", folder / "nas.db")
    wishes = Wishes(top=3, epochs=2, width=4, devices="cpu")
    session.validate(str(folder / "nas.db"), STUDY, wishes, Quiet())
    return folder


@pytest.fixture
def run(_searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process, in a folder with the searched studies in nas.db."""
    shutil.copy(_searched / "nas.db", tmp_path / "nas.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return runner(monkeypatch, capsys)


@pytest.fixture
def validated(_validated: Path, run: Run, tmp_path: Path) -> Run:
    """As `run`, of studies that are validated."""
    shutil.copytree(_validated, tmp_path, dirs_exist_ok=True)
    return run


@pytest.fixture
def data(_searched: Path) -> dict[str, np.ndarray]:
    """The arrays that the studies searched on."""
    return dict(np.load(_searched / "<img src=x>.npz"))


@pytest.fixture
def reported(run: Run, tmp_path: Path) -> Reported:
    """Writes a report and returns its page."""

    def report(*arguments: str, db: str = "nas.db", study: str | None = STUDY) -> Element:
        named = () if study is None else ("--study", study)
        result = run("report", "--db", db, *named, "--output", "page.html", *arguments)
        assert result.code == 0, result.err
        return read_page((tmp_path / "page.html").read_text(encoding="utf-8"))

    return report
