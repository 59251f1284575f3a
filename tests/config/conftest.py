"""The command line in a folder with a small space and a place for a file of options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Run, runner

SPACE = """
from nas_cntk import Builder

def propose(trial, image_shape):
    b = Builder()
    x = b.relu(b.conv(b.input(), trial.suggest_categorical("kernel", [1, 3])))
    b.dense(b.flatten(x))
    return b.build()
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return runner(monkeypatch, capsys)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Writes a file of options, and its folder; returns its path from the current folder."""

    def write(text: str, name: str = "nas.toml") -> str:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).with_name("small.py").write_text(SPACE)
        return name

    return write
