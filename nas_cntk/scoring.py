"""The one door that computes an architecture's scores."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from nas_cntk import regression
from nas_cntk.errors import RegressionError
from nas_cntk.scores import PREFIX, SCORES, Kind, ScoreKind, parse_scores, standard_error
from nas_cntk.scores.combined import COMPONENTS, combined
from nas_cntk.scores.cost import BATCH
from nas_cntk.scores.gain import PARTS, alignment_gain

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
    rungs: Sequence[int] = (),
    at_rung: Callable[[ArchitectureScores], bool] | None = None,
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
        rungs: numbers of images below n; the kernel grows from one to the next, no block computed twice.
        at_rung: called with the kernel's scores at each of `rungs`; after a true answer those are returned.
        progress: called with the fraction done, in [0, 1]; cancelled: polled, see `nas_cntk.kernel`.

    Raises:
        UsageError: on an unknown score. IllegalArchitecture: if it does not fit the images.
        BackendUnavailable: if a score needs torch, which is not installed.
        KernelError, RegressionError: if the kernel or its regression cannot be computed.
    """
    stop = at_rung
    return score_family(
        [arch],
        x,
        y,
        x_holdout,
        y_holdout,
        score=score,
        ridge=ridge,
        backend=backend,
        dtype=dtype,
        num_classes=num_classes,
        devices=devices,
        networks=[network],
        sizes=[sizes],
        seed=seed,
        rungs=rungs,
        at_rung=None if stop is None else lambda found: [0] if stop(found[0]) else [],
        progress=progress,
        cancelled=cancelled,
    )[0]


def score_family(
    archs: Sequence[Architecture],
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
    networks: Sequence[Callable[[], torch.nn.Module] | None] | None = None,
    sizes: Sequence[tuple[float, float] | None] | None = None,
    seed: int = 0,
    rungs: Sequence[int] = (),
    at_rung: Callable[[Mapping[int, ArchitectureScores]], Sequence[int]] | None = None,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[ArchitectureScores]:
    """Score several architectures, their kernels in one pass: shared sub-graphs are computed once.

    Arguments and errors are those of `score_architecture`; `networks` and `sizes` have an entry an architecture.
    `at_rung` is called with the scores of those that are left, by place, and answers which of them leave. Seconds and
    entry-layers are shared out evenly among those that took part.
    """
    asked = parse_scores(score)
    x, x_holdout = np.asarray(x), np.asarray(x_holdout)
    y, y_holdout = np.asarray(y), np.asarray(y_holdout)
    _check_images(x, x_holdout)
    image_shape = tuple(int(side) for side in x.shape[1:])
    for arch in archs:
        arch.check(image_shape)
    if num_classes is None:
        num_classes = 1 + max((int(labels.max()) for labels in (y, y_holdout) if len(labels)), default=0)
    kinds = tuple(dict.fromkeys(kernel for kind in asked for kernel in kind.kernels))
    finite = network_names([wanted.name for wanted in asked])
    share = 1.0 if not finite else 0.5 if kinds else 0.0  # of the kernels in the progress
    name = "none"
    if kinds:
        from nas_cntk.kernels import exact

        name = exact.resolve_backend(backend)
    done = _Kernels(asked, kinds, ridge, name, len(archs))
    if kinds:
        done.run(
            archs,
            (x, y, x_holdout, y_holdout, num_classes),
            [*(size for size in rungs if size < len(x)), len(x)],
            at_rung,
            _scaled(progress, 0.0, share),
            {"backend": name, "dtype": dtype, "devices": devices, "cancelled": cancelled},
        )
    results = []
    for at, arch in enumerate(archs):
        values, seconds = done.values[at], done.seconds[at]
        started = time.perf_counter()
        counted = sizes[at] if sizes is not None else None
        if counted is None:
            counted = arch.count_parameters(image_shape, num_classes), arch.count_flops(image_shape, num_classes)
        values["params"], values["flops"] = map(float, counted)
        if finite and (not kinds or done.subset[at] == len(x)):  # one that left early has no need of it
            from nas_cntk.scores.networks import network_scores

            own = networks[at] if networks is not None else None
            found = network_scores(
                own or functools.partial(_standard_network, arch, image_shape, num_classes, seed),
                finite,
                (x, y),
                (x_holdout, y_holdout),
                seed=seed,
                progress=_scaled(progress, share + (1 - share) * at / len(archs), (1 - share) / len(archs)),
                cancelled=cancelled,
            )
            values.update({score: measured.value for score, measured in found.items()})
            if any(wanted.name == "combined" for wanted in asked):
                values["combined"] = combined(values, min(BATCH, len(x)))
        done.seconds[at] = seconds + time.perf_counter() - started
        results.append(done.result(at, arch.key, len(x), len(x_holdout)))
    return results


class _Kernels:
    """What kernel regression has found of each architecture so far, by its place."""

    def __init__(
        self, asked: Sequence[ScoreKind], kinds: Sequence[Kind], ridge: float | Literal["loo"], name: str, count: int
    ) -> None:
        self.asked, self.kinds, self.ridge, self.backend = asked, kinds, ridge, name
        self.values: list[dict[str, float]] = [{} for _ in range(count)]
        self.first: list[tuple[regression.Fit, regression.Holdout] | None] = [None] * count
        self.subset, self.seconds, self.work = [0] * count, [0.0] * count, [0.0] * count

    def run(
        self,
        archs: Sequence[Architecture],
        images: tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], int],
        steps: Sequence[int],
        at_rung: Callable[[Mapping[int, ArchitectureScores]], Sequence[int]] | None,
        progress: Callable[[float], None] | None,
        options: dict[str, Any],
    ) -> None:
        from nas_cntk.kernels import cost
        from nas_cntk.scores.growing import GrowingKernels

        x, y, x_holdout, y_holdout, num_classes = images
        kernels = GrowingKernels(archs, x, x_holdout, self.kinds, **options)
        left, total, before = list(range(len(archs))), kernels.pairs(len(x)), 0
        for size in steps:
            started, pairs = time.perf_counter(), kernels.pairs(size)
            kernels.grow(size, _scaled(progress, before / total, pairs / total))
            before += pairs
            for at in left:
                for kind in self.kinds:
                    subset, holdout = kernels.of(at, kind)
                    fitted = regression.fit(subset, y[:size], num_classes, self.ridge)
                    tested = regression.holdout_scores(fitted, holdout, y_holdout)
                    self.values[at].update(_regression_values(PREFIX[kind], fitted, tested))
                    if kind == self.kinds[0]:
                        self.first[at] = fitted, tested
                if all(part in self.values[at] for part in PARTS):
                    self.values[at]["alignment_gain"] = alignment_gain(self.values[at])
                self.subset[at] = size
            work = float(cost.entry_layers([archs[at] for at in left], x.shape[1:], pairs))
            spent = time.perf_counter() - started
            for at in left:
                self.seconds[at] += spent / len(left)
                self.work[at] += work / len(left)
            if size < len(x) and at_rung is not None:
                gone = set(at_rung({at: self.result(at, archs[at].key, len(x), len(x_holdout)) for at in left}))
                left = [at for at in left if at not in gone]
                kernels.keep(left)
                if not left:
                    return

    def result(self, at: int, key: str, subset: int, holdout: int) -> ArchitectureScores:
        """Return what is known; the scores asked for come first and in order, what came free follows."""
        values, first = self.values[at], self.first[at]
        fitted_on = self.subset[at] or subset
        named = [wanted.name for wanted in self.asked if wanted.name in values]
        ranking = self.asked[0].name
        return ArchitectureScores(
            key=key,
            values={name: values[name] for name in named} | values,
            standard_error=standard_error(ranking, values[ranking], fitted_on, holdout) if ranking in values else None,
            proxy_accuracy=first[1].accuracy if first else None,
            jitter=first[0].jitter if first else 0.0,
            ridge=first[0].ridge if first else 0.0,
            subset=fitted_on,
            holdout=holdout,
            seconds=self.seconds[at],
            backend=self.backend,
            entry_layers=self.work[at],
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
        prefix + "correlation_alignment": fitted.correlation_alignment,
    }
