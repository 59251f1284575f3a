"""Regularised evolution as an Optuna sampler: one parent, one mutation, the oldest forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas_cntk.search.telling import SIBLING


class EvolutionSampler(BaseSampler):
    """Proposes a mutated copy of the best of a few drawn from the youngest `population` trials.

    A copy is made parameter by parameter as the space asks for them, so spaces whose parameters depend on each other
    (a kernel size for each of `depth` layers) evolve too: what the parent lacks is drawn at random.

    Source: Real, Aggarwal, Huang, Le, "Regularized Evolution for Image Classifier Architecture Search" (2019),
    algorithm 1.
    """

    def __init__(self, *, seed: int, population: int = 10, tournament: int = 3, mutations: int = 1) -> None:
        self._rng = np.random.default_rng(seed)
        self._random = RandomSampler(seed=int(self._rng.integers(2**31)))
        self._population = population
        self._tournament = tournament
        self._mutations = mutations
        self._parent: FrozenTrial | None = None
        self._mutated: frozenset[str] = frozenset()

    def reseed_rng(self) -> None:
        """Do nothing: every proposal has a sampler and a seed of its own."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return nothing: every parameter is proposed as it is asked for."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return nothing, as there is no relative search space."""
        return {}

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Draw the parent and choose which of its parameters to mutate."""
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
        youngest = _families(complete, sign)[-self._population :]
        if len(youngest) < self._population:
            return
        drawn = self._rng.choice(len(youngest), size=min(self._tournament, len(youngest)), replace=False)
        self._parent = min((youngest[int(i)] for i in sorted(drawn)), key=lambda t: sign * float(t.value or 0.0))
        free = sorted(name for name, d in self._parent.distributions.items() if not d.single())
        if free:
            chosen = self._rng.choice(len(free), size=min(self._mutations, len(free)), replace=False)
            self._mutated = frozenset(free[int(i)] for i in chosen)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the parent's value, or a random one if it is to mutate or does not fit."""
        parent = self._parent
        known = parent is not None and parent.distributions.get(param_name) == param_distribution
        if parent is None or not known or param_name in self._mutated:
            return self._random.sample_independent(study, trial, param_name, param_distribution)
        return parent.params[param_name]

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Do nothing: what a trial came to is read from the study."""


def _families(complete: Sequence[FrozenTrial], sign: float) -> list[FrozenTrial]:
    """Return the best of every family, by the number of its proposal: siblings would make up the whole population."""
    best: dict[int, FrozenTrial] = {}
    for trial in sorted(complete, key=lambda t: t.number):
        proposal = trial.user_attrs.get(SIBLING, trial.number)
        known = best.get(proposal)
        if known is None or sign * float(trial.value or 0.0) < sign * float(known.value or 0.0):
            best[proposal] = trial
    return [best[proposal] for proposal in sorted(best)]
