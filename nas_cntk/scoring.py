"""The scores by name, and the one door that computes them for an architecture."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from nas_cntk import regression
from nas_cntk.errors import RegressionError, UsageError

if TYPE_CHECKING:
    from nas_cntk.architecture import Architecture

Direction = Literal["maximize", "minimize"]
Kind = Literal["ntk", "nngp"]


@dataclass(frozen=True, slots=True)
class ScoreKind:
    """What a score is called, which way is better, and which kernel it needs (None: the graph alone)."""

    name: str
    direction: Direction
    needs_kernel: Kind | None
    summary: str


_REGRESSION: tuple[tuple[str, Direction, str], ...] = (
    ("holdout_accuracy", "maximize", "accuracy on the held-out images"),
    ("holdout_mse", "minimize", "mean squared error on the held-out images"),
    ("loo_accuracy", "maximize", "leave-one-out accuracy on the subset"),
    ("loo_mse", "minimize", "leave-one-out mean squared error on the subset"),
    ("log_marginal_likelihood", "maximize", "log likelihood of the subset's labels, one class on average"),
    ("alignment", "maximize", "centred alignment of kernel and labels on the subset"),
)
PREFIX: dict[Kind, str] = {"ntk": "", "nngp": "nngp_"}
_KERNEL_NAME: dict[Kind, str] = {"ntk": "all marked layers trained", "nngp": "only the readout trained"}

SCORES: dict[str, ScoreKind] = {
    kind.name: kind
    for kind in (
        *(
            ScoreKind(PREFIX[kernel] + name, direction, kernel, f"{summary}; {_KERNEL_NAME[kernel]}")
            for kernel in PREFIX
            for name, direction, summary in _REGRESSION
        ),
        ScoreKind("flops", "minimize", None, "multiply-adds of one image at width 64"),
        ScoreKind("params", "minimize", None, "weights at width 64"),
    )
}


@dataclass(frozen=True, slots=True, eq=False)
class ArchitectureScores:
    """Every score of one architecture that was asked for or came free.

    `standard_error` is that of the first score, if it is an accuracy. `proxy_accuracy`, `ridge`, `jitter` and
    `holdout_correct` (shape (holdout,)) are those of the first score's kernel, or of the first kernel needed.
    """

    key: str
    values: dict[str, float]
    standard_error: float | None
    proxy_accuracy: float | None
    jitter: float
    ridge: float
    subset: int
    holdout: int
    seconds: float
    backend: str  # "none" where no kernel was needed
    entry_layers: float
    holdout_correct: NDArray[np.bool_] | None

    def to_dict(self) -> dict[str, object]:
        """Return everything but the array, ready for JSON."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "holdout_correct"}


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
    if name.endswith("holdout_accuracy"):
        return regression.standard_error(value, holdout)
    return regression.standard_error(value, subset) if name.endswith("loo_accuracy") else None


def score_architecture(
    arch: Architecture,
    x: NDArray[Any],
    y: NDArray[Any],
    x_holdout: NDArray[Any],
    y_holdout: NDArray[Any],
    *,
    score: str | Sequence[str] = "holdout_accuracy",
    ridge: float | Literal["loo"] = 0.0,
    backend: str = "auto",
    dtype: str = "float32",
    num_classes: int | None = None,
    devices: Sequence[int] | None = None,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> ArchitectureScores:
    """Score an architecture by kernel regression on a subset, tested on held-out images; nothing is trained.

    Args:
        x: shape (n, h, w, c); y: shape (n,), integers from 0.
        x_holdout: shape (m, h, w, c); y_holdout: shape (m,).
        score: a name, a comma list or a sequence of names of `SCORES`.
        ridge: a multiple of the kernel's mean diagonal, or "loo" (see `regression.fit`).
        num_classes: by default one more than the greatest label.
        progress: called with the fraction done, in [0, 1]; cancelled: polled, see `nas_cntk.kernel`.

    Raises:
        UsageError: on an unknown score. IllegalArchitecture: if it does not fit the images.
        KernelError, RegressionError: if the kernel or its regression cannot be computed.
    """
    started = time.perf_counter()
    asked = parse_scores(score)
    x, x_holdout = np.asarray(x), np.asarray(x_holdout)
    y, y_holdout = np.asarray(y), np.asarray(y_holdout)
    _check_images(x, x_holdout)
    image_shape = tuple(int(side) for side in x.shape[1:])
    arch.check(image_shape)
    if num_classes is None:
        num_classes = 1 + max((int(labels.max()) for labels in (y, y_holdout) if len(labels)), default=0)
    kinds: list[Kind] = []
    for wanted in asked:
        if wanted.needs_kernel is not None and wanted.needs_kernel not in kinds:
            kinds.append(wanted.needs_kernel)

    values: dict[str, float] = {}
    fits: dict[Kind, tuple[regression.Fit, regression.Holdout]] = {}
    name, entry_layers = "none", 0.0
    if kinds:
        from nas_cntk.kernels import cost, exact

        name = exact.resolve_backend(backend)
        pairs = len(x) * (len(x) + 1) // 2, len(x_holdout) * len(x)
        entry_layers = float(cost.entry_layers(arch, image_shape, sum(pairs)))
        share = pairs[0] / sum(pairs)
        grams: list[dict[Kind, NDArray[Any]]] = []
        for left, right, offset, length in ((x, None, 0.0, share), (x_holdout, x, share, 1 - share)):
            result: Any = exact.kernel(
                arch,
                left,
                right,
                kind="both" if len(kinds) == 2 else kinds[0],
                backend=name,
                dtype=dtype,
                devices=devices,
                progress=_scaled(progress, offset, length),
                cancelled=cancelled,
            )
            grams.append({"nngp": result[0], "ntk": result[1]} if len(kinds) == 2 else {kinds[0]: result})
        for kind in kinds:
            fitted = regression.fit(grams[0][kind], y, num_classes, ridge)
            fits[kind] = fitted, regression.holdout_scores(fitted, grams[1][kind], y_holdout)
            values.update(_regression_values(PREFIX[kind], *fits[kind]))
    values["flops"] = float(arch.count_flops(image_shape, num_classes))
    values["params"] = float(arch.count_parameters(image_shape, num_classes))

    first = fits[kinds[0]] if kinds else None
    # The scores asked for come first and in order; what came free follows.
    ordered = {wanted.name: values[wanted.name] for wanted in asked} | values
    return ArchitectureScores(
        key=arch.key,
        values=ordered,
        standard_error=standard_error(asked[0].name, values[asked[0].name], len(x), len(x_holdout)),
        proxy_accuracy=first[1].accuracy if first else None,
        jitter=first[0].jitter if first else 0.0,
        ridge=first[0].ridge if first else 0.0,
        subset=len(x),
        holdout=len(x_holdout),
        seconds=time.perf_counter() - started,
        backend=name,
        entry_layers=entry_layers,
        holdout_correct=first[1].correct if first else None,
    )


def _check_images(x: NDArray[Any], x_holdout: NDArray[Any]) -> None:
    for what, images in (("x", x), ("x_holdout", x_holdout)):
        if images.ndim != 4 or not len(images):
            raise RegressionError(f"{what} has shape {images.shape}; it must be (images, height, width, channels)")
    if x.shape[1:] != x_holdout.shape[1:]:
        raise RegressionError(f"x has images of {x.shape[1:]}, x_holdout of {x_holdout.shape[1:]}; they must be equal")


def _scaled(progress: Callable[[float], None] | None, offset: float, length: float) -> Callable[[float], None] | None:
    if progress is None:
        return None
    report = progress
    return lambda fraction: report(offset + length * fraction)


def _regression_values(prefix: str, fitted: regression.Fit, holdout: regression.Holdout) -> dict[str, float]:
    return {
        prefix + "holdout_accuracy": holdout.accuracy,
        prefix + "holdout_mse": holdout.mse,
        prefix + "loo_accuracy": fitted.loo_accuracy,
        prefix + "loo_mse": fitted.loo_mse,
        prefix + "log_marginal_likelihood": fitted.log_marginal_likelihood,
        prefix + "alignment": fitted.alignment,
    }
