"""Samplers by name, their settings, and evolution."""

from __future__ import annotations

from typing import Any

import pytest

from nas_cntk.errors import UsageError
from nas_cntk.search.samplers import (
    SAMPLERS,
    choose_sampler,
    derived_seed,
    make_sampler,
    parse_settings,
    random_sampler,
)


def objective(trial: Any) -> float:
    depth = trial.suggest_int("depth", 1, 5)
    return float(sum(trial.suggest_categorical(f"k{i}", [1, 3, 5]) == 3 for i in range(depth)))


def run(name: str, trials: int, seed: int = 0) -> Any:
    import optuna

    study = optuna.create_study(direction="maximize")
    chosen = choose_sampler(name, {}, 1)
    for ordinal in range(trials):
        study.sampler = make_sampler(chosen, seed, ordinal)
        trial = study.ask()
        study.tell(trial, objective(trial))
    return study


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_every_sampler_repeats_itself_by_seed(name: str) -> None:
    one, same, other = run(name, 25), run(name, 25), run(name, 25, seed=1)
    assert [t.params for t in one.trials] == [t.params for t in same.trials]
    assert [t.params for t in one.trials] != [t.params for t in other.trials]


@pytest.mark.parametrize("name", ["tpe", "evolution"])
def test_a_guided_sampler_beats_chance(name: str) -> None:
    def late(sampler: str) -> float:
        values = [t.value for seed in range(3) for t in run(sampler, 60, seed).trials[30:]]
        return sum(values) / len(values)

    assert late(name) > late("random") + 0.5


def test_evolution_changes_one_parameter_of_a_good_parent() -> None:
    study = run("evolution", 40)
    parents = [t.params for t in study.trials]
    for trial in study.trials[20:]:
        shared = [
            sum(trial.params[name] != parent[name] for name in trial.params.keys() & parent.keys())
            for parent in parents[: trial.number]
        ]
        assert min(shared) <= 1


def test_defaults_follow_the_number_of_scores() -> None:
    assert choose_sampler(None, None, 1)["name"] == "tpe"
    assert choose_sampler(None, None, 2)["name"] == "nsga2"


@pytest.mark.parametrize(
    "name, settings, scores, says",
    [
        ("tpee", {}, 1, "did you mean tpe"),
        ("evolution", {}, 2, "one score"),
        ("random", {"x": "1"}, 1, "no setting 'x'"),
        ("nsga2", {"population_size": "many"}, 1, "must be int"),
        ("nsga2", {"population_size": "1"}, 1, "must lie in"),
        ("nsga2", {"crossover_prob": "2"}, 1, "must lie in"),
        ("nsga2", {"crossover_prob": "nan"}, 1, "must lie in"),
        ("tpe", {"constant_liar": "maybe"}, 1, "must be bool"),
    ],
)
def test_wrong_samplers_and_settings(name: str, settings: dict[str, object], scores: int, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        choose_sampler(name, settings, scores)


def test_settings_are_read_and_reach_the_sampler() -> None:
    chosen = choose_sampler("nsga2", parse_settings(["population_size = 20", "swapping_prob=0.25"]), 2)
    assert chosen == {"name": "nsga2", "population_size": 20, "crossover_prob": 0.9, "swapping_prob": 0.25}
    sampler: Any = make_sampler(chosen, 0, 0)
    assert sampler.population_size == 20
    with pytest.raises(UsageError, match="NAME=VALUE"):
        parse_settings(["population_size"])


def test_seeds_of_ordinals_differ_and_random_has_its_own() -> None:
    seeds = {derived_seed(seed, ordinal) for seed in range(30) for ordinal in range(30)}
    assert len(seeds) == 900
    assert derived_seed(0, 1) != derived_seed(0, 1, 1)
    assert type(random_sampler(0, 0)).__name__ == "RandomSampler"
    assert 0 <= derived_seed(2**63 - 1, 10**6) < 2**32


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2", "evolution"])
def test_a_proposal_that_is_asked_for_again_is_the_same(sampler: str) -> None:
    """As after a kill: the first trial is failed, and another of the same ordinal is asked for."""
    import optuna
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    scores = 1 if sampler == "evolution" else 2
    settings = {"nsga2": {"population_size": 4}, "tpe": {"n_startup_trials": 4}}.get(sampler)
    chosen = choose_sampler(sampler, settings, scores)
    for seed in range(4):
        study = optuna.create_study(directions=["maximize", "minimize"][:scores])

        def ask(ordinal: int, seed: int = seed, study: optuna.Study = study) -> optuna.Trial:
            study.sampler = make_sampler(chosen, seed, ordinal)
            trial = study.ask()
            for name in "abcdef":
                trial.suggest_int(name, 0, 9)
            return trial

        for ordinal in range(14):
            killed = ask(ordinal)
            study.tell(killed, state=TrialState.FAIL)
            again = ask(ordinal)
            assert again.params == killed.params, f"ordinal {ordinal} of seed {seed}"
            study.tell(again, [float(again.params["a"] + again.params["b"]), float(again.params["c"])][:scores])
