"""Some hundred inputs for every reader (`make fuzz` runs a hundred thousand), and whether a failure would be seen."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

import pytest

from fuzz import harness
from fuzz.harness import Reader, fuzz, seeded
from fuzz.mutations import ODD_VALUES, spoiled_bytes, spoiled_document
from fuzz.readers import READERS
from nas_cntk.errors import DataError

COUNT = {"folder": 100, "model": 100}  # the slower ones
LEAST_ACCEPTED = 0.1  # of the inputs: else the first checks would be all that is tried


@pytest.mark.parametrize("name", list(READERS))
def test_whatever_is_read_is_accepted_or_refused(name: str) -> None:
    if name == "model":
        pytest.importorskip("torch")
    count = COUNT.get(name, 200)
    figures = fuzz(READERS[name](), range(count), seed=1)
    assert not figures.failures, "\n".join(figures.failures)
    assert figures.inputs == count and LEAST_ACCEPTED * count < figures.accepted < count
    assert len(figures.reasons) >= 10, figures.reasons


def _raises(error: BaseException) -> Reader:
    def run(rng: Random, folder: Path) -> None:
        if rng.random() < 0.5:
            raise error

    return Reader("broken", run, (DataError,))


@pytest.mark.parametrize(
    "error",
    [
        ValueError("something inside"),
        DataError("two\nlines"),
        DataError(""),
        DataError("x" * 7000),
        DataError("'a' does not fit into memory"),
        SystemExit(1),
        RecursionError(),
        UserWarning("a warning"),
    ],
    ids=lambda error: f"{type(error).__name__}{len(str(error))}",
)
def test_what_is_no_refusal_of_ours_is_a_failure_that_can_be_seen_again(error: BaseException) -> None:
    figures = fuzz(_raises(error), range(20), seed=3)
    expected = [number for number in range(20) if seeded("broken", 3, number).random() < 0.5][:10]
    assert [f"seed 3, number {number}:" in text for number, text in zip(expected, figures.failures, strict=True)]
    assert all(f"--seed 3 --only {number}" in text for number, text in zip(expected, figures.failures, strict=True))


def test_an_exception_inside_a_refusal_is_a_failure() -> None:
    def run(rng: Random, folder: Path) -> None:
        try:
            raise KeyError("inside")
        except KeyError:
            raise DataError("outside")  # noqa: B904

    assert "KeyError" in fuzz(Reader("chained", run), range(1)).failures[0]


def test_memory_time_and_hangs_are_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    def eats(rng: Random, folder: Path) -> None:
        """The memory is not really taken: what is measured says that it was."""

    def spins(rng: Random, folder: Path) -> None:
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass

    def hangs(rng: Random, folder: Path) -> None:
        time.sleep(30)

    monkeypatch.setattr(harness, "peak_memory", iter((0, 2 << 30)).__next__)
    assert "MiB of memory" in fuzz(Reader("eats", eats), range(1)).failures[0]
    monkeypatch.undo()
    monkeypatch.setattr(harness, "MOST_SECONDS", 0.1)
    assert "took 0." in fuzz(Reader("spins", spins), range(1)).failures[0]
    monkeypatch.setattr(harness, "HANGS_AFTER", 0.2)
    assert "still reading" in fuzz(Reader("hangs", hangs), range(1)).failures[0]


def test_ctrl_c_keeps_the_figures_so_far() -> None:
    numbers = iter(range(10))

    def run(rng: Random, folder: Path) -> None:
        if next(numbers) == 3:
            raise KeyboardInterrupt

    assert fuzz(Reader("stopped", run), range(10)).accepted == 3


def test_the_same_seed_gives_the_same_input() -> None:
    content, document = bytes(range(256)), {"nodes": [{"op": "conv", "kernel": 3, "inputs": [0]}] * 4}
    for number in range(50):
        first, second = (seeded("x", 0, number) for _ in range(2))
        assert spoiled_bytes(first, content) == spoiled_bytes(second, content)
        assert repr(spoiled_document(first, document)) == repr(spoiled_document(second, document))
    assert document == {"nodes": [{"op": "conv", "kernel": 3, "inputs": [0]}] * 4}, "copies are spoiled"
    assert len({spoiled_bytes(seeded("x", 0, number), content) for number in range(200)}) > 150
    assert len({repr(spoiled_document(seeded("x", 0, n), document)) for n in range(300)}) > len(ODD_VALUES)
