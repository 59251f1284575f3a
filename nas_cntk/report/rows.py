"""The rows of a leaderboard, from the records: pure values, ordered, filtered, ready for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from nas_cntk import regression
from nas_cntk.records.trials import Finished

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
    cnn_accuracy: float | None
    cnn_recipe: str | None
    full_kernel_accuracy: float | None
    scores: dict[str, float]
    duplicate_of: int | None
    reason: str | None
    predicted_seconds: float | None
    parameters: dict[str, object]
    backend: str | None  # that computed the score, which a duplicate has from its original
    ridge: float | None
    jitter: float | None

    def to_dict(self) -> dict[str, object]:
        """Return the row for JSON."""
        return asdict(self)


def row_of(trial: Finished) -> Row:
    """Return the row of a finished trial."""
    verdict, score = trial.verdict, trial.score
    complete = verdict.outcome == "COMPLETE" and score is not None
    result = score.result if complete and score is not None else {}
    accuracy = result.get("proxy_accuracy")
    holdout = score.holdout if complete and score is not None else None
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
        cnn_accuracy=None,
        cnn_recipe=None,
        full_kernel_accuracy=None,
        scores=dict(score.values) if complete and score is not None else {},
        duplicate_of=verdict.duplicate_of,
        reason=verdict.reason,
        predicted_seconds=verdict.predicted_seconds,
        parameters=dict(verdict.parameters or {}),
        backend=None if result.get("backend") is None else str(result["backend"]),
        ridge=_number(result.get("ridge")),
        jitter=_number(result.get("jitter")),
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def order(rows: Sequence[Row], directions: Directions) -> list[Row]:
    """Return the rows at the largest subset first, best first; then smaller subsets; PRUNED trials last."""
    name = next(iter(directions))
    sign = -1.0 if directions[name] == "maximize" else 1.0

    def rank(row: Row) -> tuple[bool, int, float, int]:
        if row.state != "COMPLETE":
            return True, 0, 0.0, row.ordinal
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
