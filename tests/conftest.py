"""What every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Programs that tests start import what the tests import, the installed package: not what lies in the current folder.
os.environ["PYTHONSAFEPATH"] = "1"


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return ROOT


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of golden kernels and large datasets: $NAS_CNTK_SHARED, or shared/ beside the repository."""
    folder = Path(os.environ.get("NAS_CNTK_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no golden kernels and datasets at {folder} (NAS_CNTK_SHARED names another folder)")
    return folder
