"""What the tests of the CUDA engine share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # host_device and fake_cupy, for the test files beside this one


@pytest.fixture
def fake_cupy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """CuPy's part that the backend uses, on the CPU, with two GPUs."""
    from fake_cupy import installed

    with installed(monkeypatch) as cupy:
        yield cupy
