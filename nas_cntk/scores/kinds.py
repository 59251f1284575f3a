"""The scores by name: which way is better, and what each needs."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nas_cntk import regression
from nas_cntk.errors import UsageError

Direction = Literal["maximize", "minimize"]
Kind = Literal["ntk", "nngp"]


@dataclass(frozen=True, slots=True)
class ScoreKind:
    """What a score is called, which way is better, and what it needs; neither kernel nor network: the graph alone."""

    name: str
    direction: Direction
    kernels: tuple[Kind, ...]  # that it needs
    summary: str
    needs_network: bool = False  # a finite network, and so torch


_REGRESSION: tuple[tuple[str, Direction, str], ...] = (
    ("holdout_accuracy", "maximize", "accuracy on the held-out images"),
    ("holdout_mse", "minimize", "mean squared error on the held-out images"),
    ("loo_accuracy", "maximize", "leave-one-out accuracy on the subset"),
    ("loo_mse", "minimize", "leave-one-out mean squared error on the subset"),
    ("log_marginal_likelihood", "maximize", "log likelihood of the subset's labels, one class on average"),
    ("alignment", "maximize", "centred alignment of kernel and labels on the subset"),
    ("correlation_alignment", "maximize", "alignment of the kernel's correlations, of different images only"),
)
PREFIX: dict[Kind, str] = {"ntk": "", "nngp": "nngp_"}
_KERNEL_NAME: dict[Kind, str] = {"ntk": "all marked layers trained", "nngp": "only the readout trained"}

_NETWORK: tuple[tuple[str, str], ...] = (
    ("synflow", "log of the summed synaptic flow of an untrained network"),
    ("naswot", "log determinant of the overlap of an untrained network's relu codes"),
    ("jacov", "spread of the eigenvalues of the correlations of input gradients"),
    ("grad_norm", "sum over layers of the norms of the gradients of the weights"),
    ("zico", "mean over deviation of the gradients of the weights, from batch to batch"),
    ("short_training", "held-out accuracy after a few epochs on the subset"),
)

SCORES: dict[str, ScoreKind] = {
    kind.name: kind
    for kind in (
        *(
            ScoreKind(PREFIX[kernel] + name, direction, (kernel,), f"{summary}; {_KERNEL_NAME[kernel]}")
            for kernel in PREFIX
            for name, direction, summary in _REGRESSION
        ),
        ScoreKind("alignment_gain", "maximize", ("ntk", "nngp"), "what training all layers adds to that alignment"),
        ScoreKind("flops", "minimize", (), "multiply-adds of one image; at width 64, or the space's own count"),
        ScoreKind("params", "minimize", (), "weights; at width 64, or the space's own count"),
        *(ScoreKind(name, "maximize", (), summary, needs_network=True) for name, summary in _NETWORK),
        ScoreKind("combined", "maximize", ("ntk",), "a fixed sum of the kernel's, the network's and the graph's", True),
    )
}


def parse_scores(names: str | Sequence[str]) -> tuple[ScoreKind, ...]:
    """Return the scores of a comma list or a sequence of names; the first one ranks.

    Raises:
        UsageError: on an unknown name (with the nearest known one), a repeated one, or none.
    """
    parts = names.split(",") if isinstance(names, str) else list(names)
    found: list[ScoreKind] = []
    for part in parts:
        name = part.strip()
        if name not in SCORES:
            near = difflib.get_close_matches(name, SCORES, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known scores: {', '.join(SCORES)}"
            raise UsageError(f"unknown score {name[:60]!r}; {hint}")
        if SCORES[name] in found:
            raise UsageError(f"score {name} is named twice; name each once, the one that ranks first")
        found.append(SCORES[name])
    if not found:
        raise UsageError(f"no score named; known scores: {', '.join(SCORES)}")
    return tuple(found)


def standard_error(name: str, value: float, subset: int, holdout: int) -> float | None:
    """Return the binomial standard error of a score by its name; None if it is no accuracy."""
    if name.endswith("holdout_accuracy") or name == "short_training":
        return regression.standard_error(value, holdout)
    return regression.standard_error(value, subset) if name.endswith("loo_accuracy") else None
