"""NSGA-II that proposes the same when it is asked again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna.samplers import NSGAIISampler

if TYPE_CHECKING:
    import optuna


class OrderedNSGAIISampler(NSGAIISampler):
    """Optuna's NSGA-II with the parents of a generation always in the order of their numbers.

    Optuna returns them as they were selected to whoever asks first, and by number, from what it has kept, to all
    others: a proposal that is asked for anew, because its process was killed, would be another one.
    """

    def get_parent_population(self, study: optuna.Study, generation: int) -> list[optuna.trial.FrozenTrial]:
        """Return the parents of a generation, by number."""
        return sorted(super().get_parent_population(study, generation), key=lambda trial: trial.number)
