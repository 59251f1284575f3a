"""Optuna is told of every trial that is recorded: of those that it proposed, and of siblings it has not heard of."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nas_cntk.records import leases, trials
from nas_cntk.records.database import Records
from nas_cntk.records.leases import Owner
from nas_cntk.records.trials import Finished
from nas_cntk.search.evaluation import Evaluation

if TYPE_CHECKING:
    import optuna

ORDINAL = "ordinal"  # the user attribute by which a trial is found again
SIBLING = "sibling_of"  # the user attribute that names the trial whose score this one came with


def tell_recorded(
    records: Records, study_id: int, study: optuna.Study, evaluation: Evaluation, owner: Owner
) -> list[Finished]:
    """Tell Optuna of what this process has recorded, or one that died, by ordinal; return it."""
    told = []
    for untold in leases.take_untold(records, study_id, owner):
        ordinal, number = untold.lease.ordinal, untold.number
        if number is None and untold.left:
            number = _number_of(study, ordinal)
        trial = trials.recorded_trial(records, study_id, ordinal, -1 if number is None else number)
        if number is None or not _tell(study, trial, evaluation):
            number = _add(records, study_id, study, trial, evaluation)
        leases.finish(records, untold.lease, number)
        told.append(replace(trial, number=number))
    return told


def fail(study: optuna.Study, number: int) -> None:
    """Tell Optuna that a trial has come to nothing, unless it is finished."""
    from optuna.trial import TrialState

    _tell_state(study, number, None, TrialState.FAIL)


def attributes(trial: Finished) -> dict[str, Any]:
    """Return what Optuna keeps of a trial beside its values."""
    verdict = trial.verdict
    found = {
        ORDINAL: trial.ordinal,
        "key": verdict.key,
        "reason": verdict.reason,
        "duplicate_of": verdict.duplicate_of,
        SIBLING: verdict.sibling_of,
    }
    return {name: value for name, value in found.items() if value is not None}


def _tell(study: optuna.Study, trial: Finished, evaluation: Evaluation) -> bool:
    """Tell of a trial that Optuna proposed; False if a process that thought this one dead has failed it."""
    from optuna.trial import TrialState

    values, state = _come_to(trial, evaluation)
    if _tell_state(study, trial.number, values, state):
        return True
    return study.get_trials(deepcopy=False)[trial.number].state in (TrialState.COMPLETE, TrialState.PRUNED)


def _tell_state(study: optuna.Study, number: int, values: list[float] | None, state: optuna.trial.TrialState) -> bool:
    try:
        study.tell(number, values, state=state)
    except ValueError as error:
        if "Cannot tell" not in str(error):
            raise
        return False
    return True


def _add(records: Records, study_id: int, study: optuna.Study, trial: Finished, evaluation: Evaluation) -> int:
    """Add a trial that Optuna did not propose; return its number."""
    from optuna.trial import FixedTrial, create_trial

    verdict = trial.verdict
    fixed: Any = FixedTrial(dict(verdict.parameters or {}))
    evaluation.propose(fixed)  # for the distributions
    name = evaluation.names[0]
    partial = {size: trials.find_score(records, study_id, verdict.key or "", size) for size in evaluation.rungs}
    values, state = _come_to(trial, evaluation)
    study.add_trial(
        create_trial(
            state=state,
            values=values,
            params=dict(fixed.params),
            distributions=fixed.distributions,
            user_attrs=attributes(trial),
            system_attrs=_generation(study, verdict.sibling_of),
            intermediate_values={size: score.values[name] for size, score in partial.items() if score is not None},
        )
    )
    number = _number_of(study, trial.ordinal)
    assert number is not None
    return number


def _come_to(trial: Finished, evaluation: Evaluation) -> tuple[list[float] | None, optuna.trial.TrialState]:
    from optuna.trial import TrialState

    if trial.verdict.outcome != "COMPLETE":
        return None, TrialState.PRUNED
    assert trial.score is not None
    return [float(trial.score.values[name]) for name in evaluation.names], TrialState.COMPLETE


def _number_of(study: optuna.Study, ordinal: int) -> int | None:
    """Return the number of the finished trial of an ordinal, if Optuna has been told of it."""
    from optuna.trial import TrialState

    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    return next((t.number for t in reversed(finished) if t.user_attrs.get(ORDINAL) == ordinal), None)


def _generation(study: optuna.Study, sibling_of: int | None) -> dict[str, Any]:
    # NSGA-II breeds from those of a generation, which Optuna notes of the trials it proposed itself.
    if sibling_of is None:
        return {}
    noted = study.get_trials(deepcopy=False)[sibling_of].system_attrs
    return {name: value for name, value in noted.items() if name.endswith(":generation")}
