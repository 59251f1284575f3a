"""Validations: one row an architecture and kind, grid points until they are part of one."""

from __future__ import annotations

from collections.abc import Callable

from nas_cntk.records import studies, validations
from nas_cntk.records.database import Records
from nas_cntk.records.studies import Study
from nas_cntk.records.validations import Validation


def made(study: Study, accuracy: float | None, kind: str = "cnn", recipe: str | None = "standard") -> Validation:
    return Validation(study.study_id, "k", 4, kind, recipe, accuracy, None, 100, 50, 2.5, {"epochs": 3})


def test_a_validation_comes_back_as_it_was(records: Records, make_study: Callable[..., Study]) -> None:
    study = make_study()
    validations.record_validation(records, made(study, 0.875))
    validations.record_validation(records, made(study, None, recipe="paper"))
    validations.record_validation(records, made(study, 0.5, "kernel", None))
    found = validations.validations(records, study.study_id)
    assert [(one.kind, one.recipe, one.accuracy) for one in found] == [
        ("cnn", "standard", 0.875),
        ("cnn", "paper", None),
        ("kernel", None, 0.5),
    ]
    assert found[0].details == {"epochs": 3} and found[0].number == 4 and found[0].finished
    assert found[0].to_dict()["trial"] == 4
    assert validations.find_validation(records, study.study_id, "k", "kernel", None) == found[2]
    assert validations.find_validation(records, study.study_id, "other", "kernel", None) is None


def test_a_later_one_takes_the_place_of_an_earlier(records: Records, make_study: Callable[..., Study]) -> None:
    study = make_study()
    for accuracy in (0.5, 0.75):
        validations.record_validation(records, made(study, accuracy))
    assert [one.accuracy for one in validations.validations(records, study.study_id)] == [0.75]


def test_points_live_until_their_validation(records: Records, make_study: Callable[..., Study]) -> None:
    study = make_study()
    point = {"diverged": False, "test_accuracy": 0.5}
    for recipe, settings in (("paper", "a"), ("paper", "b"), ("standard", "a")):
        validations.record_point(records, study.study_id, "k", recipe, settings, point)
    validations.record_point(records, study.study_id, "k", "paper", "a", {"diverged": True})
    assert validations.find_point(records, study.study_id, "k", "paper", "a") == {"diverged": True}
    assert validations.find_point(records, study.study_id, "k", "paper", "c") is None
    validations.record_validation(records, made(study, 0.5, recipe="paper"))
    assert validations.find_point(records, study.study_id, "k", "paper", "b") is None
    assert validations.find_point(records, study.study_id, "k", "standard", "a") == point
    validations.forget_points(records, study.study_id, "k", "standard")
    assert validations.find_point(records, study.study_id, "k", "standard", "a") is None


def test_a_deleted_study_leaves_none_and_takes_none(records: Records, make_study: Callable[..., Study]) -> None:
    study = make_study()
    validations.record_validation(records, made(study, 0.5))
    validations.record_point(records, study.study_id, "k", "paper", "a", {})
    studies.delete_study(records, study.name)
    validations.record_validation(records, made(study, 0.5))
    validations.record_point(records, study.study_id, "k", "paper", "a", {})
    assert validations.validations(records, study.study_id) == []
    assert validations.find_point(records, study.study_id, "k", "paper", "a") is None
