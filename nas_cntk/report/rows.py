"""The rows of a leaderboard, from the records: pure values, ordered, filtered, ready for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from nas_cntk import regression
from nas_cntk.errors import StudyError
from nas_cntk.records.studies import Study
from nas_cntk.records.trials import Finished
from nas_cntk.records.validations import Validation

Directions = Mapping[str, str]  # score name -> "maximize" | "minimize"; the first one ranks


@dataclass(frozen=True, slots=True)
class Row:
    """A finished trial; None where something is not known, or not yet."""

    trial: int
    ordinal: int
    key: str | None
    state: str
    proxy_accuracy: float | None
    proxy_stderr: float | None
    subset: int | None
    holdout: int | None
    params: int | None
    flops: int | None
    seconds: float | None
    cnn_accuracy: float | None  # on the test set, of the standard recipe if the architecture was trained by both
    cnn_stderr: float | None
    cnn_recipe: str | None
    full_kernel_accuracy: float | None
    full_kernel_stderr: float | None
    scores: dict[str, float]
    duplicate_of: int | None
    sibling_of: int | None
    reason: str | None
    predicted_seconds: float | None
    parameters: dict[str, object]
    backend: str | None  # that computed the score, which a duplicate has from its original
    ridge: float | None
    jitter: float | None

    def to_dict(self) -> dict[str, object]:
        """Return the row for JSON."""
        return asdict(self)


def directions_of(study: Study) -> dict[str, str]:
    """Return the scores of a study with their directions; the first one ranks."""
    from nas_cntk.scoring import SCORES

    names = study.identity["score"]
    assert isinstance(names, list)
    return {str(name): SCORES[name].direction if name in SCORES else "maximize" for name in names}


def row_of(trial: Finished, validated: Sequence[Validation] = ()) -> Row:
    """Return the row of a finished trial, with what validations of a study say of its architecture."""
    verdict, score = trial.verdict, trial.score
    cnn, kernel = best_known(validated, verdict.key)
    result = {} if score is None else score.result  # one that was dropped has that of its last rung
    accuracy = result.get("proxy_accuracy")
    holdout = None if score is None else score.holdout
    stderr = None
    if isinstance(accuracy, (int, float)) and holdout:
        stderr = regression.standard_error(accuracy, holdout)
    return Row(
        trial=trial.number,
        ordinal=trial.ordinal,
        key=verdict.key,
        state=verdict.outcome,
        proxy_accuracy=_number(accuracy),
        proxy_stderr=stderr,
        subset=verdict.subset,
        holdout=holdout,
        params=verdict.params,
        flops=verdict.flops,
        seconds=verdict.seconds,
        cnn_accuracy=None if cnn is None else cnn.accuracy,
        cnn_stderr=None if cnn is None else cnn.stderr,
        cnn_recipe=None if cnn is None else cnn.recipe,
        full_kernel_accuracy=None if kernel is None else kernel.accuracy,
        full_kernel_stderr=None if kernel is None else kernel.stderr,
        scores={} if score is None else dict(score.values),
        duplicate_of=verdict.duplicate_of,
        sibling_of=verdict.sibling_of,
        reason=verdict.reason,
        predicted_seconds=verdict.predicted_seconds,
        parameters=dict(verdict.parameters or {}),
        backend=None if result.get("backend") is None else str(result["backend"]),
        ridge=_number(result.get("ridge")),
        jitter=_number(result.get("jitter")),
    )


def named(study: str, rows: Sequence[Row], number: int, purpose: str = "") -> Row:
    """Return the row of a trial.

    Args:
        purpose: what it is wanted for, as the message has it.

    Raises:
        StudyError: if none of the rows has that number.
    """
    for row in rows:
        if row.trial == number:
            return row
    raise StudyError(f"study {study!r} has no finished trial {number}{purpose}; see `nas-cntk leaderboard`")


def ranking(rows: Sequence[Row]) -> list[Row]:
    """Return the distinct complete rows at the largest subset, best first; the rows come ordered."""
    complete = [row for row in rows if row.state == "COMPLETE"]
    largest = max((row.subset or 0 for row in complete), default=0)
    return distinct([row for row in complete if (row.subset or 0) == largest])


def best_known(validated: Sequence[Validation], key: str | None) -> tuple[Validation | None, Validation | None]:
    """Return the CNN, of the standard recipe if both are there, and the full-dataset kernel of an architecture."""
    own = [one for one in validated if one.key == key and key is not None]
    cnns = sorted((one for one in own if one.kind == "cnn"), key=lambda one: one.recipe != "standard")
    kernels = [one for one in own if one.kind == "kernel"]
    return (cnns[0] if cnns else None), (kernels[0] if kernels else None)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def order(rows: Sequence[Row], directions: Directions) -> list[Row]:
    """Return the rows at the largest subset first, best first; then smaller ones; PRUNED trials last, likewise."""
    name = next(iter(directions))
    sign = -1.0 if directions[name] == "maximize" else 1.0

    def rank(row: Row) -> tuple[bool, int, float, int]:
        if row.state != "COMPLETE":
            return True, -(row.subset or 0), sign * row.scores.get(name, 0.0), row.ordinal
        return False, -(row.subset or 0), sign * row.scores[name], row.ordinal

    return sorted(rows, key=rank)


def distinct(rows: Sequence[Row]) -> list[Row]:
    """Return the first row of every key; a trial without a key (an illegal proposal) is like no other."""
    seen: set[str] = set()
    kept = []
    for row in rows:
        if row.key is None or row.key not in seen:
            kept.append(row)
        if row.key is not None:
            seen.add(row.key)
    return kept


def pareto(rows: Sequence[Row], directions: Directions) -> list[Row]:
    """Return the COMPLETE rows at the largest subset that no other one betters in one score and equals in the rest."""
    complete = [row for row in rows if row.state == "COMPLETE"]
    largest = max((row.subset or 0 for row in complete), default=0)
    complete = [row for row in complete if (row.subset or 0) == largest]
    points = [
        tuple((-1.0 if directions[name] == "maximize" else 1.0) * row.scores[name] for name in directions)
        for row in complete
    ]
    front: set[int] = set()
    # In ascending order whatever dominates a point comes before it.
    for index in sorted(range(len(points)), key=lambda i: points[i]):
        point = points[index]
        dominated = any(
            points[other] != point and all(a <= b for a, b in zip(points[other], point, strict=True)) for other in front
        )
        if not dominated:
            front.add(index)
    return [row for index, row in enumerate(complete) if index in front]
