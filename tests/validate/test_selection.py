"""Which architectures are validated."""

from __future__ import annotations

from typing import Any

import pytest

from nas_cntk import Builder
from nas_cntk.errors import StudyError, UsageError
from nas_cntk.records.studies import Study
from nas_cntk.records.trials import Finished, Score, Verdict
from nas_cntk.validate.selection import select, spread
from nas_cntk.validate.wishes import Wishes


def study(**identity: object) -> Study:
    known: dict[str, object] = {"score": ["holdout_accuracy"], "ridge": 0.0, **identity}
    return Study(1, "one", "", 9, known, {}, {}, {}, 1.0, "cpu")


def architecture(convs: int, trainable: bool = True) -> str:
    b = Builder()
    x = b.input()
    for _ in range(convs):
        x = b.relu(b.conv(x, 3, trainable=trainable))
    b.dense(b.flatten(x), trainable)
    return b.build().to_json()


def trial(number: int, accuracy: float | None, key: str | None = None, **parts: Any) -> Finished:
    text = architecture(1 + number % 5)
    if accuracy is None:
        verdict = Verdict("PRUNED", "no closed form", key)
        return Finished(number, number, verdict, None, text if key else None, None)
    key = key or f"k{number}"
    result = {"values": {"holdout_accuracy": accuracy}, "ridge": parts.get("ridge")}
    score = Score(key, parts.get("subset", 100), 50, "", result, None)
    verdict = Verdict("COMPLETE", key=key, subset=score.subset)
    return Finished(number, number, verdict, score, parts.get("json", text), None)


TRIALS = [trial(0, 0.5), trial(1, 0.9), trial(2, 0.7), trial(3, 0.9, "k1"), trial(4, None), trial(5, 0.6),
          trial(6, 0.99, subset=50), trial(7, None, "dear")]  # fmt: skip


def numbers(wishes: Wishes) -> list[int]:
    return [candidate.number for candidate in select(study(), TRIALS, wishes)[0]]


def test_the_best_distinct_ones_at_the_full_subset() -> None:
    assert numbers(Wishes(top=2)) == [1, 2]
    assert numbers(Wishes()) == [1, 2, 5, 0]  # five by default, and there are four
    assert "fewer than 9" in select(study(), TRIALS, Wishes(top=9))[1][0]


def test_spread_over_the_ranking() -> None:
    assert numbers(Wishes(spread=3)) == [1, 5, 0]  # of four, the middle one rounds to the third
    assert numbers(Wishes(spread=1)) == [1] and numbers(Wishes(spread=99)) == [1, 2, 5, 0]
    rows: Any = list(range(30))
    assert spread(rows, 12)[0] == 0 and spread(rows, 12)[-1] == 29 and len(set(spread(rows, 12))) == 12


def test_trials_by_number_even_those_that_were_too_dear() -> None:
    assert numbers(Wishes((5, 1))) == [5, 1]
    assert numbers(Wishes((7,))) == [7]
    found, notes = select(study(), TRIALS, Wishes((3, 1)))
    assert [candidate.number for candidate in found] == [3] and "equal architectures" in notes[0]


@pytest.mark.parametrize(
    "wishes, message",
    [
        (Wishes((99,)), "has no finished trial 99"),
        (Wishes((4,)), r"trial 4 has no architecture \(no closed form\)"),
    ],
)
def test_what_cannot_be_validated(wishes: Wishes, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        select(study(), TRIALS, wishes)


def test_nothing_scored_and_nothing_to_train() -> None:
    with pytest.raises(StudyError, match="no scored architecture yet"):
        select(study(), [trial(4, None)], Wishes())
    frozen = [trial(0, 0.5, json=architecture(1, trainable=False))]
    with pytest.raises(StudyError, match="no trainable layer.*--only kernel"):
        select(study(), frozen, Wishes())
    assert select(study(), frozen, Wishes(only="kernel"))[0][0].number == 0


def test_the_ridge_is_the_trials_own() -> None:
    assert select(study(ridge="loo"), [trial(0, 0.5, ridge=1e-3)], Wishes())[0][0].ridge == 1e-3
    assert select(study(ridge=0.25), TRIALS, Wishes((7,)))[0][0].ridge == 0.25
    assert select(study(ridge="loo"), TRIALS, Wishes((7,)))[0][0].ridge == 0.0


def test_two_ways_to_choose() -> None:
    with pytest.raises(UsageError, match="use one"):
        Wishes((1,), spread=3)
