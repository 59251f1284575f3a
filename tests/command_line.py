"""The command line, run in the test's own process."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

# The least that has a conv.
ARCH = {
    "nodes": [
        {"op": "input"},
        {"op": "conv", "kernel": 3, "inputs": [0]},
        {"op": "relu", "inputs": [1]},
        {"op": "flatten", "inputs": [2]},
        {"op": "dense", "inputs": [3]},
    ]
}


class Result(NamedTuple):
    """What a command line came to."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


Run = Callable[..., Result]


def runner(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs `nas-cntk` with its arguments."""
    from nas_cntk.cli import main

    def call(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["nas-cntk", *arguments])
        before = signal.getsignal(signal.SIGTERM)
        code: Any = 0
        try:
            main()
        except SystemExit as error:
            code = error.code
        finally:
            signal.signal(signal.SIGTERM, before)
        captured = capsys.readouterr()
        return Result(int(code or 0), captured.out, captured.err)

    return call
