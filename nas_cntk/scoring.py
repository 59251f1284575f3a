"""The one door that computes an architecture's scores."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from nas_cntk import regression
from nas_cntk.errors import RegressionError
from nas_cntk.scores import PREFIX, SCORES, Kind, ScoreKind, parse_scores, standard_error
from nas_cntk.scores.combined import COMPONENTS, combined

if TYPE_CHECKING:
    import torch

    from nas_cntk.architecture import Architecture

__all__ = ["SCORES", "ArchitectureScores", "ScoreKind", "parse_scores", "score_architecture", "standard_error"]

NETWORK_WIDTH = 64  # of the network that finite scores see, where no other is given


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
    network: Callable[[], torch.nn.Module] | None = None,
    sizes: tuple[float, float] | None = None,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> ArchitectureScores:
    """Score an architecture on a subset, tested on held-out images: by kernel regression, and whatever else is asked.

    Nothing is trained, but for `short_training`. A score of a finite network that is not defined is NaN.

    Args:
        x: shape (n, h, w, c); y: shape (n,), integers from 0.
        x_holdout: shape (m, h, w, c); y_holdout: shape (m,).
        score: a name, a comma list or a sequence of names of `SCORES`.
        ridge: a multiple of the kernel's mean diagonal, or "loo" (see `regression.fit`).
        num_classes: by default one more than the greatest label.
        network: makes the finite network, input (n, c, h, w), of the scores that need one; by default the standard
            network of width 64 (`validate.standard`), with batch norm.
        sizes: parameters and FLOPs, by default the architecture's at width 64.
        seed: of the finite network's weights.
        progress: called with the fraction done, in [0, 1]; cancelled: polled, see `nas_cntk.kernel`.

    Raises:
        UsageError: on an unknown score. IllegalArchitecture: if it does not fit the images.
        BackendUnavailable: if a score needs torch, which is not installed.
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
    networks = network_names([wanted.name for wanted in asked])
    kernel_share = 1.0 if not networks else 0.5

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
                progress=_scaled(progress, kernel_share * offset, kernel_share * length),
                cancelled=cancelled,
            )
            grams.append({"nngp": result[0], "ntk": result[1]} if len(kinds) == 2 else {kinds[0]: result})
        for kind in kinds:
            fitted = regression.fit(grams[0][kind], y, num_classes, ridge)
            fits[kind] = fitted, regression.holdout_scores(fitted, grams[1][kind], y_holdout)
            values.update(_regression_values(PREFIX[kind], *fits[kind]))
    if sizes is None:
        sizes = arch.count_parameters(image_shape, num_classes), arch.count_flops(image_shape, num_classes)
    values["params"], values["flops"] = map(float, sizes)
    if networks:
        from nas_cntk.scores.networks import network_scores

        make = network or functools.partial(_standard_network, arch, image_shape, num_classes, seed)
        offset = kernel_share if kinds else 0.0
        scaled = _scaled(progress, offset, 1 - offset)
        found = network_scores(
            make, networks, (x, y), (x_holdout, y_holdout), seed=seed, progress=scaled, cancelled=cancelled
        )
        values.update({name: measured.value for name, measured in found.items()})
    if any(wanted.name == "combined" for wanted in asked):
        values["combined"] = combined(values)

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


def network_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the scores of a finite network that `names` need, those within `combined` too."""
    wanted = [part for name in names for part in ((name, *COMPONENTS) if name == "combined" else (name,))]
    return tuple(dict.fromkeys(n for n in wanted if SCORES[n].needs_network and n != "combined"))


def _standard_network(arch: Architecture, image_shape: Sequence[int], num_classes: int, seed: int) -> torch.nn.Module:
    from nas_cntk.validate.standard import standard_network

    return standard_network(arch, image_shape, num_classes, NETWORK_WIDTH, seed=seed)


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
