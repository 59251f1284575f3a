"""Scores in the words and numbers of the page."""

from __future__ import annotations

from nas_cntk.report import text

_NAMES = {
    "holdout_accuracy": "held-out accuracy",
    "nngp_holdout_accuracy": "held-out accuracy (nngp)",
    "loo_accuracy": "leave-one-out accuracy",
    "flops": "FLOPs",
    "params": "parameters",
}


def name_of(score: str) -> str:
    """Return what a score is called."""
    return _NAMES.get(score, score.replace("_", " "))


def is_share(score: str) -> bool:
    """Return whether a score is a share in [0, 1], shown in percent."""
    return score.endswith("accuracy") or score == "short_training"


def is_count(score: str) -> bool:
    """Return whether a score counts something, over several powers of ten."""
    return score in ("flops", "params")


def axis_of(score: str) -> str:
    """Return the label of a score's axis, with its unit."""
    return f"{name_of(score)}, %" if is_share(score) else name_of(score)


def tick(score: str, value: float) -> str:
    """Return the label of a tick."""
    if is_share(score):
        return f"{round(100 * value, 4):g}"
    return text.count(round(value)) if is_count(score) else f"{value:.4g}"


def shown(score: str, value: float | None, error: float | None = None) -> str:
    """Return a score as text shows it."""
    return text.score("accuracy" if is_share(score) else score, value, error)
