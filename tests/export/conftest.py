"""A small study to export from."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from small_study import SPACE, Said, Small, images

from nas_cntk.report.board import load_board
from nas_cntk.report.live import LiveView
from nas_cntk.search import session
from nas_cntk.search.settings import Options, Problem


@pytest.fixture
def said() -> Said:
    """A screen that remembers."""
    return Said()


@pytest.fixture(scope="session")
def _searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    (x, y), (x_test, y_test) = images(90), images(30, seed=1)
    np.savez(folder / "small.npz", x=x, y=y, x_test=x_test, y_test=y_test)
    (folder / "space.py").write_text(SPACE)
    problem = Problem(f"npz:{folder / 'small.npz'}", None, str(folder / "space.py"), 40, 40, 0)
    db = str(folder / "nas.db")
    with LiveView(Console(file=io.StringIO()), db) as view:
        session.search(db, "small", problem, Options(trials=3), view)
    return folder


@pytest.fixture
def small(_searched: Path, tmp_path: Path) -> Small:
    """The study in a database of the test's own, without weights."""
    shutil.copy(_searched / "nas.db", tmp_path / "nas.db")
    board = load_board(str(tmp_path / "nas.db"), "small")
    architecture = board.architecture(board.row(0).key)
    assert architecture is not None
    return Small(str(tmp_path / "nas.db"), _searched / "small.npz", architecture)
