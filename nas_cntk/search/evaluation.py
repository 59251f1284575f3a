"""How a search proposes and measures, when it stops, and who is told: what the loop is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from nas_cntk.architecture import Architecture
    from nas_cntk.records.trials import Finished
    from nas_cntk.scoring import ArchitectureScores

Cancelled = Callable[[], bool]
Progress = Callable[[float], None]
Siblings = Callable[[Mapping[str, Any]], Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How a proposal is made and measured; the loop knows nothing of data and kernels."""

    propose: Callable[[Any], Architecture]  # of an Optuna trial
    score: Callable[
        ..., list[ArchitectureScores]
    ]  # of a family of architectures, a Progress, a Cancelled, and `at_rung` if there are rungs
    predict: Callable[[Sequence[Architecture]], float]  # seconds of a family
    sizes: Callable[[Architecture], tuple[int, int]]  # parameters, FLOPs
    names: tuple[str, ...]  # of the scores that Optuna is told
    subset: int
    holdout: int
    rungs: tuple[int, ...] = ()  # parts of the subset at which a candidate may be dropped; none: it never is
    prune_level: float = 0.0  # of the test that drops it
    siblings: Siblings | None = None  # other proposals that may come nearly free with one, by parameters
    most_members: int = 1  # of a family that memory holds
    batch: int = 1  # proposals that are asked for at once


class Observer(Protocol):
    """Who is told how the search goes."""

    def trial_begins(self, number: int, architecture: Architecture, predicted: float, others: int) -> None:
        """The score of trial `number`, and of `others` in the same pass, is about to be computed; in seconds."""

    def progress(self, fraction: float) -> None:
        """That much of the score is computed."""

    def trial_ends(self, trial: Finished) -> None:
        """A trial is finished and recorded."""

    def waits(self, working: int) -> None:
        """Other processes work on the last trials."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop, and what not to begin."""

    target: int
    max_trial_seconds: float
    ends: Callable[[], str | None]  # "interrupted", "timeout" or None
