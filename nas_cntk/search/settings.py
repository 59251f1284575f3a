"""What a search is asked for: its identity, which never changes, and its options, which may on resume."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nas_cntk.errors import StudyError, UsageError

DEFAULT_TRIALS = 30
DEFAULT_TRIAL_SECONDS = 300.0
DTYPES = ("float32", "float64")


@dataclass(frozen=True, slots=True)
class Problem:
    """What is searched and how it is measured: with the data's and the space's contents, a study's identity."""

    data: str = "digits"
    image_size: int | None = None
    space: str = "plain"
    subset: int = 2000
    holdout: int = 2000
    seed: int = 0
    score: tuple[str, ...] = ("holdout_accuracy",)  # none: the space's own
    ridge: float | str = 0.0
    dtype: str = "float32"
    download: bool = False
    skip_bad: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.ridge, str) and self.ridge != "loo":
            raise UsageError(f'--ridge must be a number or "loo", got {self.ridge!r}')
        if not isinstance(self.ridge, str) and not (math.isfinite(self.ridge) and self.ridge >= 0):
            raise UsageError(f"--ridge must be zero or more, got {self.ridge}")
        if self.dtype not in DTYPES:
            raise UsageError(f"--dtype must be float32 or float64, got {self.dtype!r}")


@dataclass(frozen=True, slots=True)
class Options:
    """What may differ from one run of a study to the next; None means as stored, or the default."""

    trials: int | None = None
    timeout: float | None = None
    max_trial_seconds: float | None = None
    backend: str | None = None
    sampler: str | None = None
    sampler_settings: Mapping[str, object] | None = None
    workers: int = 1  # processes
    cluster: str | None = None  # whose workers score, as `cluster.open_cluster` reads it
    prune_level: float | None = None
    siblings: bool | None = None
    batch: int | None = None
    devices: tuple[int, ...] = ()  # numbers of GPUs; none: the backend's own choice
    start_from: str | None = None  # a study, of a new one
    start_trials: tuple[int, ...] = ()  # of it; none: its best
    asked: Mapping[str, object] | None = None  # the file and the flags that this came from; a new study keeps them


@dataclass(frozen=True, slots=True)
class Manner:
    """How trials are scored, beside what they measure: kept with the study, and free to change on resume."""

    prune_level: float = 0.0  # of the test that drops a candidate at a rung; 0: never
    siblings: bool = True  # score what comes nearly free with a proposal
    batch: int = 1  # proposals asked for at once

    @classmethod
    def of(cls, stored: Mapping[str, object], options: Options) -> Manner:
        """Return what is asked for, else what is stored, else the default."""
        found = {name: stored[name] for name in cls.__slots__ if name in stored}
        asked = {name: getattr(options, name) for name in cls.__slots__ if getattr(options, name) is not None}
        return cls(**{**found, **asked})


def parse_ridge(text: str) -> float | str:
    """Return the number that `--ridge` holds, or "loo"."""
    if text == "loo":
        return text
    try:
        return float(text)
    except ValueError:
        raise UsageError(f'--ridge must be a number or "loo", got {text!r}') from None


def absolute_data(spec: str) -> str:
    """Return a data spec, KIND or KIND:PATH, such that it is found from another working folder."""
    kind, colon, path = spec.partition(":")
    return f"{kind}:{_absolute(path)}" if colon and path else spec


def absolute_space(name_or_path: str) -> str:
    """Return the name of a shipped space as it is, the path of a file such that it is found from elsewhere."""
    is_path = name_or_path.endswith(".py") or os.sep in name_or_path
    return _absolute(name_or_path) if is_path else name_or_path


def _absolute(path: str) -> str:
    try:
        return str(Path(path).expanduser().absolute())
    except RuntimeError:
        return path  # no such user's home: whoever reads the path says so


def identity(problem: Problem, *, data_fingerprint: str, space_name: str, space_hash: str) -> dict[str, object]:
    """Return the identity of a study: two runs of equal identity measure the same thing."""
    return {
        "data": data_fingerprint,
        "image_size": problem.image_size,
        "space": space_name,
        "space_source": space_hash,
        "subset": problem.subset,
        "holdout": problem.holdout,
        "score": list(problem.score),
        "seed": problem.seed,
        "ridge": problem.ridge,
        "dtype": problem.dtype,
    }


_HASH = re.compile("[0-9a-f]{32,}")
_DIFFERENCES = {
    "data": "the data changed (fingerprint {old}, now {new})",
    "space_source": "the space's source changed (hash {old}, now {new})",
}


def check_identity(name: str, stored: Mapping[str, object], asked: Mapping[str, object]) -> None:
    """Refuse to go on with a study as something else.

    Raises:
        StudyError: naming every difference.
    """
    differences = []
    for field in asked:
        old, new = stored.get(field), asked[field]
        if old == new:
            continue
        # Another space has another source, another size other images; one difference is enough.
        if field == "space_source" and stored.get("space") != asked["space"]:
            continue
        if field == "data" and stored.get("image_size") != asked["image_size"]:
            continue
        form = _DIFFERENCES.get(field, f"{field.replace('_', ' ')} was {{old}}, now {{new}}")
        differences.append(form.format(old=_shown(old), new=_shown(new)))
    if differences:
        raise StudyError(
            f"study {name!r} is another search: {'; '.join(differences)}."
            " Undo that, or start a new study with another --study"
        )


def _shown(value: object) -> str:
    """Return a value as a message shows it: of a hash, the beginning."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "the data's own" if value is None else str(value)[:12] if _HASH.fullmatch(str(value)) else str(value)[:40]
