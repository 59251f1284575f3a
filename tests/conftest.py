"""What every test may ask for."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import postgresql
import pytest

ROOT = Path(__file__).resolve().parent.parent

# Programs that tests start import what the tests import, the installed package: not what lies in the current folder.
os.environ["PYTHONSAFEPATH"] = "1"

# Those programs are sent signals, which one started behind `nohup` or `&` would inherit as ignored.
for _name in ("SIGINT", "SIGHUP"):
    _number = getattr(signal, _name, None)
    if _number is not None and signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _name == "SIGINT" else signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --long."""
    parser.addoption("--long", action="store_true", help="drills as often as their figures want (make drills)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip without --long what is marked long."""
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="make drills runs it (--long)"))


@pytest.fixture(scope="session")
def times(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """How often a drill does something: the first number, or the second with --long."""
    return lambda few, many: many if request.config.getoption("--long") else few


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return ROOT


@pytest.fixture(scope="session")
def new_database() -> Iterator[Callable[[], str]]:
    """Makes empty databases on a PostgreSQL server of this run's own, and returns their URLs."""
    why = postgresql.reason()
    if why is not None:
        pytest.skip(why)
    import psycopg

    numbers = itertools.count()
    with postgresql.server() as url:

        def make() -> str:
            name = f"db{next(numbers)}"
            address = url.format(name="postgres").replace("+psycopg", "")
            with psycopg.connect(address, autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}".encode())
            return url.format(name=name)

        yield make


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of golden kernels and large datasets: $NAS_CNTK_SHARED, or shared/ beside the repository."""
    folder = Path(os.environ.get("NAS_CNTK_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no golden kernels and datasets at {folder} (NAS_CNTK_SHARED names another folder)")
    return folder
