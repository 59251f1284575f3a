"""Settings: what may be asked for, and what makes two studies one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nas_cntk.errors import StudyError, UsageError
from nas_cntk.search.settings import Problem, absolute_data, absolute_space, check_identity, identity, parse_ridge


@pytest.mark.parametrize("fields", [{"ridge": "some"}, {"ridge": -1.0}, {"ridge": float("nan")}, {"dtype": "float16"}])
def test_problems_are_checked(fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Problem(**fields)


def test_ridge_is_a_number_or_loo() -> None:
    assert parse_ridge("loo") == "loo" and parse_ridge("1e-3") == 1e-3
    with pytest.raises(UsageError):
        parse_ridge("much")


def test_paths_become_absolute_and_names_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_data("digits") == "digits"
    assert absolute_data("npz:x.npz") == f"npz:{tmp_path}/x.npz"
    assert absolute_space("plain") == "plain"
    assert absolute_space("mine.py") == f"{tmp_path}/mine.py"


def ident(problem: Problem, data: str = "d1", source: str = "s1") -> dict[str, object]:
    return identity(problem, data_fingerprint=data, space_name=problem.space, space_hash=source)


def test_equal_identities_go_on() -> None:
    check_identity("s", ident(Problem()), ident(Problem(data="npz:/elsewhere/same.npz")))


@pytest.mark.parametrize(
    "changed, says",
    [
        (ident(Problem(subset=500)), "subset was 2000, now 500"),
        (ident(Problem(seed=7)), "seed was 0, now 7"),
        (ident(Problem(image_size=4)), "image size was the data's own, now 4"),
        (ident(Problem(score=("holdout_accuracy", "flops"))), "score was holdout_accuracy, now holdout_accuracy,flops"),
        (ident(Problem(), data="d2"), "the data changed"),
        (ident(Problem(), source="s2"), "the space's source changed"),
        (ident(Problem(space="resnet"), source="s2"), "space was plain, now resnet"),
    ],
)
def test_every_difference_is_named(changed: dict[str, object], says: str) -> None:
    with pytest.raises(StudyError) as caught:
        check_identity("s", ident(Problem()), changed)
    assert says in str(caught.value)
    assert ";" not in str(caught.value).replace(". ", ""), "one difference, one mention"


def test_another_size_is_one_difference_though_its_fingerprint_differs_too() -> None:
    with pytest.raises(StudyError) as caught:
        check_identity("s", ident(Problem()), ident(Problem(image_size=4), data="d2"))
    assert "image size was" in str(caught.value) and "data changed" not in str(caught.value)


def test_several_differences_are_all_named() -> None:
    with pytest.raises(StudyError) as caught:
        check_identity("s", ident(Problem()), ident(replace(Problem(), seed=1, subset=9), data="d2"))
    assert all(word in str(caught.value) for word in ("seed was", "subset was", "data changed"))
