"""Siblings and batches: what comes free with a proposal, becomes a trial of its own and is told to Optuna."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from nas_cntk.architecture import Architecture
from nas_cntk.errors import KernelError, SpaceError
from nas_cntk.records import leases, studies, trials
from nas_cntk.records.migrations import open_records
from nas_cntk.records.trials import Finished
from nas_cntk.search import family
from nas_cntk.search.samplers import random_sampler
from nas_cntk.search.spaces import load_space, shipped_spaces

TARGET = 60  # a family becomes at most six trials


def stored(db: str) -> list[Finished]:
    records = open_records(db, write=False)
    try:
        return trials.finished_trials(records, studies.find_study(records, "drill").study_id)
    finally:
        records.close()


def optuna_trials(db: str) -> list[Any]:
    import optuna

    return optuna.load_study(study_name="drill", storage=f"sqlite:///{db}").get_trials()


def counting(fake: ModuleType, **parts: Any) -> tuple[Any, list[list[str]]]:
    """An evaluation with siblings, and the families that it was asked to score."""
    families: list[list[str]] = []
    base = fake.evaluation()

    def score(archs: list[Architecture], *rest: Any) -> Any:
        families.append([arch.key for arch in archs])
        return base.score(archs, *rest)

    given = {"siblings": fake.siblings, "most_members": 50, "score": score, **parts}
    return fake.evaluation(**given), families


@pytest.mark.parametrize("sampler", [pytest.param("random", marks=pytest.mark.long), "tpe", "evolution"])
def test_siblings_are_trials_of_their_own(fake: ModuleType, db: str, sampler: str) -> None:
    evaluation, families = counting(fake)
    how, ended = fake.search(db, target=TARGET, sampler=sampler, fake=evaluation)
    assert how == "complete"
    found = stored(db)
    assert [t.ordinal for t in found] == list(range(TARGET)) and {t.ordinal for t in ended} == set(range(TARGET))
    kin = [t for t in found if t.verdict.sibling_of is not None]
    assert len(kin) > 10
    told = optuna_trials(db)
    assert [t.number for t in told] == list(range(TARGET))
    for trial in kin:
        leader = told[trial.verdict.sibling_of or 0]
        mine = told[trial.number]
        assert mine.user_attrs["sibling_of"] == leader.number and mine.user_attrs["ordinal"] == trial.ordinal
        assert mine.params == trial.verdict.parameters
        assert {name: leader.distributions[name] for name in mine.params} == mine.distributions
        architecture = fake.propose(mine)
        assert architecture.key == trial.verdict.key and mine.value == fake.accuracy(architecture)
        assert trial.architecture is not None and Architecture.from_json(trial.architecture).key == architecture.key
    for number in {t.verdict.sibling_of for t in kin}:
        assert sum(t.verdict.sibling_of == number for t in kin) < TARGET // family.FAMILY_SHARE
    keys = [t.verdict.key for t in found if t.verdict.outcome == "COMPLETE" and t.verdict.duplicate_of is None]
    assert len(set(keys)) == len(keys)
    scored = [key for one in families for key in one]
    assert len(set(scored)) == len(scored), "what is known is not scored again"


def test_what_came_free_and_was_no_trial_is_used_when_it_is_proposed(fake: ModuleType, db: str) -> None:
    evaluation, families = counting(fake)
    fake.search(db, target=20, fake=evaluation)  # one sibling at most is a trial
    before = {t.verdict.key for t in stored(db)}
    scored = {key for one in families for key in one}
    assert scored - before, "nothing is kept for later: the test shows nothing"
    evaluation, more = counting(fake)
    fake.search(db, target=80, fake=evaluation)
    assert not {key for one in more for key in one} & scored
    later = {t.verdict.key for t in stored(db)}
    assert (scored - before) & later, "none of them was proposed: the test shows nothing"
    for trial in stored(db):
        if trial.verdict.outcome == "COMPLETE":
            assert trial.score is not None and trial.architecture is not None
            arch = Architecture.from_json(trial.architecture)
            assert trial.score.values["holdout_accuracy"] == fake.accuracy(arch)


def test_in_a_study_too_small_for_them_there_are_none(fake: ModuleType, db: str) -> None:
    evaluation, families = counting(fake)
    fake.search(db, target=19, fake=evaluation)
    assert all(len(one) == 1 for one in families), "a pass would cost more and bring no trial"
    assert all(t.verdict.sibling_of is None for t in stored(db))


def test_only_what_is_nearly_free_is_taken(fake: ModuleType, db: str) -> None:
    def pooled(arch: Architecture) -> bool:
        return arch.nodes[-2].op.NAME == "global_avg_pool"

    def cost(archs: list[Architecture]) -> float:
        # What pooled ones compute is all that flattened ones need, but for a tenth; among equals nothing is shared.
        tenths = sum(1 if any(map(pooled, archs)) else 10 for arch in archs if not pooled(arch))
        return 100.0 * sum(map(pooled, archs)) + tenths

    evaluation, families = counting(fake, predict=cost)
    fake.search(db, target=20, fake=evaluation)
    sizes = {len(one) for one in families}
    assert 3 <= max(sizes) <= 5 and min(sizes) == 1, (
        "up to four flattened ones with a pooled one, none with a flattened one"
    )
    few = {"siblings": fake.siblings, "most_members": 3, "predict": lambda archs: 1.0}
    evaluation, families = counting(fake, **few)
    fake.search(db, target=40, fake=evaluation)
    assert max(map(len, families)) == 3
    dear = counting(fake, predict=lambda archs: 1.0 + 0.2 * (len(archs) - 1))[0]
    leader = family.Leader(0, {"depth": 4, "head": "global", **dict.fromkeys(KERNELS, 3)}, _deepest(fake))
    assert len(family.siblings(dear, [leader], set(), 1e9)) == 5, "no family takes more than twice its leader"
    assert len(family.siblings(dear, [leader], set(), 1.5)) == 2, "or more than a trial may"
    assert family.siblings(dear, [leader], set(), 0.5) == []


KERNELS = tuple(f"kernel_{layer}" for layer in range(4))


def _deepest(fake: ModuleType) -> Architecture:
    from optuna.trial import FixedTrial

    found = fake.propose(FixedTrial({"depth": 4, "head": "global", **dict.fromkeys(KERNELS, 3)}))
    assert isinstance(found, Architecture)
    return found


def test_a_family_that_fails_is_scored_one_by_one(fake: ModuleType, db: str) -> None:
    base = fake.evaluation()
    sizes: list[int] = []

    def score(archs: list[Architecture], *rest: Any) -> Any:
        sizes.append(len(archs))
        if len(archs) > 1:
            raise KernelError("one of them overflows")
        return base.score(archs, *rest)

    fake.search(db, target=TARGET, fake=fake.evaluation(siblings=fake.siblings, most_members=50, score=score))
    assert 1 in sizes and max(sizes) > 1
    assert all(t.verdict.sibling_of is None for t in stored(db))
    assert sum(t.verdict.outcome == "COMPLETE" for t in stored(db)) > 30


@pytest.mark.parametrize("step", [0, 2, *(pytest.param(step, marks=pytest.mark.long) for step in (1, 3, 4))])
def test_what_was_recorded_and_not_told_is_told_first(
    fake: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    quiet, db = str(tmp_path / "quiet"), str(tmp_path / "db")
    fake.search(quiet, target=TARGET, sampler="tpe", fake=counting(fake)[0])
    finish, left = leases.finish, [step]

    def dies(*arguments: Any) -> None:
        # Optuna has been told of it, the lease is not finished, and the rest of the family is not told.
        if left[0] == 0:
            raise ZeroDivisionError
        left[0] -= 1
        finish(*arguments)

    monkeypatch.setattr(leases, "finish", dies)
    with pytest.raises(ZeroDivisionError):
        fake.search(db, target=TARGET, sampler="tpe", fake=counting(fake)[0])
    monkeypatch.setattr(leases, "finish", finish)
    fake.search(db, target=TARGET, sampler="tpe", fake=counting(fake)[0])
    boards = [[(t.verdict.key, t.verdict.outcome, t.verdict.sibling_of) for t in stored(path)] for path in (quiet, db)]
    assert boards[0] == boards[1]
    assert [t.state.name for t in optuna_trials(db)] == [t.state.name for t in optuna_trials(quiet)]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_batch_is_asked_for_and_scored_at_once(fake: ModuleType, db: str, sampler: str) -> None:
    evaluation, families = counting(fake, siblings=None, batch=4, predict=lambda archs: 1.0)
    how, _ = fake.search(db, target=18, sampler=sampler, fake=evaluation)
    assert how == "complete" and len(stored(db)) == 18
    assert max(map(len, families)) == 4
    assert [t.state.name for t in optuna_trials(db)] == [t.verdict.outcome for t in stored(db)]


def test_twins_in_a_batch_are_duplicates(fake: ModuleType, db: str) -> None:
    def propose(trial: Any) -> Architecture:
        depth = trial.suggest_int("depth", 1, 4)
        return Architecture.from_json(fake.propose(_Fixed(depth % 2 + 1)).to_json())

    evaluation, families = counting(fake, propose=propose, siblings=None, batch=6, predict=lambda archs: 1.0)
    fake.search(db, target=6, fake=evaluation)
    found = stored(db)
    assert len(families) == 1 and len(families[0]) == len(set(families[0])) == len({t.verdict.key for t in found})
    first = {t.verdict.key: t.number for t in reversed(found)}
    for trial in found:
        number = first[trial.verdict.key]
        assert trial.verdict.duplicate_of == (None if trial.number == number else number)
        assert trial.verdict.outcome == "COMPLETE"


class _Fixed:
    def __init__(self, depth: int) -> None:
        self.depth = depth

    def suggest_int(self, *_: Any) -> int:
        return self.depth

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        return choices[1]


@pytest.mark.parametrize("name", [name for name in shipped_spaces() if name != "nasbench201"])
def test_the_shipped_spaces_name_legal_siblings(name: str) -> None:
    import optuna
    from optuna.trial import FixedTrial

    space = load_space(name)
    for seed in range(20):
        trial = optuna.create_study(sampler=random_sampler(seed, 0)).ask()
        leader = space.propose(trial, (8, 8, 3))
        named = space.siblings(trial.params)
        proposed = [space.propose(FixedTrial(dict(params)), (8, 8, 3)) for params in named]
        assert leader.key in {arch.key for arch in proposed[:5]}, "the same body under the five heads comes first"
        sizes = [len(arch.nodes) for arch in proposed[5:]]
        bodies = [max(sizes[at : at + 5]) for at in range(0, len(sizes), 5)]
        assert bodies == sorted(bodies, reverse=True), "the nearest depths first"
        assert len({arch.key for arch in proposed}) > 1


@pytest.mark.parametrize("body, message", [("return 3", "no list"), ("return [3]", "no list"), ("1 / 0", "Zero")])
def test_a_space_with_bad_siblings_is_named(tmp_path: Path, body: str, message: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f"def propose(trial, shape):\n    return None\n\n\ndef siblings(params):\n    {body}\n")
    with pytest.raises(SpaceError, match=message):
        load_space(str(path)).siblings({})


def test_evolution_counts_a_family_once_by_its_best() -> None:
    import optuna
    from optuna.distributions import FloatDistribution
    from optuna.trial import create_trial

    from nas_cntk.search.evolution import EvolutionSampler

    study = optuna.create_study(direction="maximize")

    def add(value: float, sibling_of: int | None) -> None:
        attributes = {} if sibling_of is None else {"sibling_of": sibling_of}
        x = {"x": FloatDistribution(0.0, 1.0)}
        study.add_trial(create_trial(value=value, params={"x": value}, distributions=x, user_attrs=attributes))

    def parents() -> set[float]:
        drawn = set()
        for seed in range(30):
            sampler = EvolutionSampler(seed=seed, population=3, tournament=1)
            study.sampler = sampler
            study.ask()
            if sampler._parent is not None:
                drawn.add(sampler._parent.params["x"])
        return drawn

    for value, sibling_of in ((0.3, None), (0.2, None), (0.9, 1), (0.1, 1)):
        add(value, sibling_of)
    assert parents() == set(), "two families are no population of three"
    add(0.5, None)
    assert parents() == {0.3, 0.9, 0.5}
