"""Siblings: other proposals of a space whose scores come nearly free with those of the ones that were asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nas_cntk.architecture import Architecture
from nas_cntk.errors import IllegalArchitecture
from nas_cntk.search.evaluation import Evaluation

FAMILY_SHARE = 10  # a family becomes at most one in this many of the study's trials
NEARLY_FREE = 0.25  # of what a sibling would cost by itself is what it may add
MOST = 2.0  # what a family may cost, in multiples of those that were asked for


@dataclass(frozen=True, slots=True)
class Leader:
    """A proposal that is about to be scored."""

    number: int
    parameters: Mapping[str, Any]
    architecture: Architecture


@dataclass(frozen=True, slots=True)
class Sibling:
    """A proposal that is scored with a leader."""

    leader: int  # its number
    parameters: Mapping[str, Any]
    architecture: Architecture


def most_siblings(target: int, leaders: int) -> int:
    """Return how many siblings become trials, in a study of `target`, with that many leaders."""
    return max(0, target // FAMILY_SHARE - leaders)


def siblings(evaluation: Evaluation, leaders: Sequence[Leader], known: set[str], most_seconds: float) -> list[Sibling]:
    """Return the siblings that are nearly free, in the order that the space names them, one leader after the other.

    Those whose key is `known` are left out. The whole family takes at most `most_seconds` by prediction, or what the
    leaders take without siblings. The last ones are left out first.

    Raises:
        SpaceError: if the space names what it cannot propose.
    """
    if evaluation.siblings is None:
        return []
    family = [leader.architecture for leader in leaders]
    alone = evaluation.predict(family)
    found = []
    for one in _named(evaluation, leaders, known):
        # Beside the leaders alone, so at most what it adds to the whole family.
        added = evaluation.predict([*family, one.architecture]) - alone
        if added <= NEARLY_FREE * evaluation.predict([one.architecture]):
            found.append(one)
    del found[max(0, evaluation.most_members - len(leaders)) :]
    most = max(alone, min(MOST * alone, most_seconds))
    while found and evaluation.predict([*family, *(one.architecture for one in found)]) > most:
        del found[-max(1, len(found) // 8) :]
    return found


def _named(evaluation: Evaluation, leaders: Sequence[Leader], known: set[str]) -> Iterator[Sibling]:
    from optuna.trial import FixedTrial

    assert evaluation.siblings is not None
    seen = known | {leader.architecture.key for leader in leaders}
    for leader in leaders:
        for parameters in evaluation.siblings(leader.parameters):
            trial = FixedTrial(dict(parameters))
            try:
                architecture = evaluation.propose(trial)
            except IllegalArchitecture:
                continue
            if architecture.key not in seen:
                seen.add(architecture.key)
                yield Sibling(leader.number, dict(trial.params), architecture)
