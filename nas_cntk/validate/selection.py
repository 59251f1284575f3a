"""Which architectures are validated: the best distinct ones, some spread over the ranking, or trials by number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas_cntk.architecture import Architecture
from nas_cntk.errors import StudyError
from nas_cntk.records.studies import Study
from nas_cntk.records.trials import Finished
from nas_cntk.report.rows import Row, directions_of, distinct, named, order, ranking, row_of
from nas_cntk.validate.wishes import DEFAULT_TOP, Wishes


@dataclass(frozen=True, slots=True)
class Candidate:
    """An architecture to validate."""

    number: int  # of its trial
    key: str
    architecture: Architecture
    ridge: float  # that the proxy was solved with, a multiple of the mean diagonal


def select(study: Study, finished: Sequence[Finished], wishes: Wishes) -> tuple[list[Candidate], list[str]]:
    """Return the candidates, best first or as they were named, and what the screen must say of the choice.

    Raises:
        StudyError: if a trial is not there or has no architecture, or the study has none to choose from.
    """
    texts = {trial.verdict.key: trial.architecture for trial in finished}
    rows = order([row_of(trial) for trial in finished], directions_of(study))
    notes: list[str] = []
    if wishes.trials:
        chosen = distinct([named(study.name, rows, number) for number in wishes.trials])
        if len(chosen) < len(set(wishes.trials)):
            notes.append("some of these trials have equal architectures, which are validated once")
    else:
        found = ranking(rows)
        if not found:
            raise StudyError(f"study {study.name!r} has no scored architecture yet; run `nas-cntk resume`")
        wanted = wishes.spread or wishes.top or DEFAULT_TOP
        chosen = spread(found, wanted) if wishes.spread else found[:wanted]
        if len(chosen) < wanted and (wishes.spread or wishes.top):
            notes.append(f"the study has {len(found)} distinct scored architectures, fewer than {wanted}")
    candidates = []
    for row in chosen:
        text = texts.get(row.key)
        if row.key is None or text is None:
            raise StudyError(f"trial {row.trial} has no architecture ({row.reason}); choose another trial")
        architecture = Architecture.from_json(text)
        if "cnn" in wishes.kinds and not architecture.trainable:
            raise StudyError(f"trial {row.trial} has no trainable layer, nothing to train; use --only kernel")
        asked = study.identity.get("ridge")
        ridge = row.ridge if row.ridge is not None else asked if isinstance(asked, (int, float)) else 0.0
        candidates.append(Candidate(row.trial, row.key, architecture, float(ridge)))
    return candidates, notes


def spread(rows: Sequence[Row], count: int) -> list[Row]:
    """Return `count` rows at equal distances over a ranking, its first and last among them."""
    if count >= len(rows):
        return list(rows)
    if count == 1:
        return [rows[0]]
    return [rows[round(place * (len(rows) - 1) / (count - 1))] for place in range(count)]
