"""How much each parameter of a search space mattered, by PED-ANOVA, with what another draw of trials would say."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nas_cntk.records.trials import Suggestion
from nas_cntk.report.rows import Directions, Row

LEAST = 10  # scored trials, below which nothing is said
FEW = 50  # below which the reader is warned: five trials are the best tenth
TARGET = 0.1  # the best tenth
_RESAMPLES = 40
_LARGEST = 1000  # trials of which resamples are drawn; more say enough by themselves
_LEVEL = 0.8  # of the interval


@dataclass(frozen=True, slots=True)
class Share:
    """A parameter's share of the importance of all, in [0, 1], and the interval over resampled trials."""

    parameter: str
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Importance:
    """The parameters, the most important one first, and what must be said of them."""

    shares: tuple[Share, ...]
    trials: int
    notes: tuple[str, ...]


def importance(
    rows: Sequence[Row], directions: Directions, suggested: Mapping[int, Sequence[Suggestion]], seed: int = 0
) -> Importance:
    """Return how much each parameter had to do with being among the best tenth by the score that ranks.

    Source: Watanabe, Bansal and Hutter, "PED-ANOVA" (2023), and Optuna's treatment of conditional parameters.
    """
    name = next(iter(directions))
    complete = [row for row in rows if row.state == "COMPLETE" and name in row.scores and suggested.get(row.trial)]
    largest = max((row.subset or 0 for row in complete), default=0)
    scored = sorted((row for row in complete if (row.subset or 0) == largest), key=lambda row: row.trial)
    if len(scored) < LEAST:
        return Importance((), len(scored), (f"with {len(scored)} scored trials, fewer than {LEAST}, nothing is said",))
    if len({row.scores[name] for row in scored}) == 1:
        return Importance((), len(scored), ("all trials have the same score: no parameter made a difference",))
    maximize = directions[name] == "maximize"
    trials = _frozen(scored, name, suggested)
    values = _evaluated(trials, maximize)
    if not values:
        return Importance((), len(scored), ("no parameter tells the best tenth of the trials from the others",))
    draws: list[dict[str, float]] = []
    rng = np.random.default_rng(seed)
    for _ in range(_RESAMPLES if len(trials) <= _LARGEST else 0):
        draws.append(_evaluated([trials[place] for place in rng.integers(0, len(trials), len(trials))], maximize))
    notes = []
    if len(scored) < FEW:
        notes.append(f"{len(scored)} trials are few for this; take the order as a guess (from {FEW} on it is steadier)")
    return Importance(tuple(_share(name, value, draws) for name, value in values.items()), len(scored), tuple(notes))


def _share(name: str, value: float, draws: Sequence[Mapping[str, float]]) -> Share:
    known = [draw.get(name, 0.0) for draw in draws if draw]
    if len(known) < _RESAMPLES // 2:
        return Share(name, value, None, None)
    low, high = np.quantile(known, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Share(name, value, float(low), float(high))


def _frozen(scored: Sequence[Row], name: str, suggested: Mapping[int, Sequence[Suggestion]]) -> list[object]:
    from optuna.distributions import json_to_distribution
    from optuna.trial import create_trial

    trials: list[object] = []
    for row in scored:
        found = {one.name: (json_to_distribution(one.distribution), one.value) for one in suggested[row.trial]}
        trials.append(
            create_trial(
                params={parameter: kind.to_external_repr(value) for parameter, (kind, value) in found.items()},
                distributions={parameter: kind for parameter, (kind, _) in found.items()},
                value=row.scores[name],
            )
        )
    return trials


def _evaluated(trials: Sequence[object], maximize: bool) -> dict[str, float]:
    """Return the shares by parameter, the largest first; nothing where none tells anything."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # In memory: the study's own storage would be opened for writing.
    study = optuna.create_study(direction="maximize" if maximize else "minimize")
    study.add_trials(trials)  # type: ignore[arg-type]
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=TARGET)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental, and regimes of few trials: the page says so itself
        found = optuna.importance.get_param_importances(study, evaluator=evaluator, normalize=False)
    total = sum(found.values())
    if not total > 0:
        return {}
    shares = {parameter: value / total for parameter, value in found.items()}
    return dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))
