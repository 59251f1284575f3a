"""What the best architecture says of each test image: by its trained network, or else by its kernel regression.

A validated network is asked on the test images with the weights that validation left. Where there is none, the kernel
regression of the best trial is computed once more and asked on the study's held-out images.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_cntk.data.dataset import Dataset
from nas_cntk.errors import DataError, NasCntkError, StudyError
from nas_cntk.report import text
from nas_cntk.report.board import Board
from nas_cntk.report.rows import Row, ranking

Say = Callable[[str], None]
_WORTH_SAYING = 5.0  # seconds
_TIMED = 64  # images that a network is timed on


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """The classes that a model gave to images.

    `images` are as they were read, shape (m, h, w, c); `truth` and `predicted` are labels, shape (m,); `margin` is by
    how much the predicted class's score exceeds the true one's, 0 where they are the same, shape (m,).
    """

    trial: int
    model: str  # in words
    where: str  # what images
    images: NDArray[np.float32]
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    margin: NDArray[np.float64]
    classes: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def wrong(self) -> NDArray[np.int64]:
        """The images with another class than theirs, the surest mistakes first."""
        found = np.flatnonzero(self.truth != self.predicted)
        order: NDArray[np.int64] = found[np.argsort(-self.margin[found], kind="stable")]
        return order


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Why there are no predictions."""

    reason: str


def predictions(board: Board, db: str, moved: str | None, max_seconds: float, say: Say) -> Predictions | LeftOut:
    """Return what the best architecture predicts; `moved` says where the study's data are now.

    Raises:
        StudyError, DataError: if `moved` was given and is not what the study searched on.
    """
    ranked = ranking(board.rows)
    if not ranked:
        return LeftOut("no trial has a score yet")
    try:
        dataset = _dataset(board, moved)
    except (StudyError, DataError) as error:
        if moved is not None:
            raise
        return LeftOut(f"the study's data cannot be read here: {_one_line(error)}")
    try:
        found = _of_network(board, db, dataset, max_seconds, say)
        return found if found is not None else _of_kernel(board, ranked[0], dataset, max_seconds, say)
    except NasCntkError as error:
        return LeftOut(_one_line(error))


def _dataset(board: Board, moved: str | None) -> Dataset:
    from nas_cntk.validate.images import study_dataset

    study = board.study
    # A report is read offline, and fetches nothing to be written either.
    return study_dataset(replace(study, config={**study.config, "download": False}), moved)


def _of_network(board: Board, db: str, dataset: Dataset, max_seconds: float, say: Say) -> Predictions | LeftOut | None:
    """Return the predictions of the best validated network whose weights are there; None if there is none."""
    from nas_cntk.validate.artifacts import weights_path

    cnns = [one for one in board.validated if one.recipe == "standard" and one.accuracy is not None]
    cnns = [one for one in cnns if weights_path(db, board.study.name, one.key, "standard").exists()]
    if not cnns or not len(dataset.y_test):
        return None
    try:
        import torch  # noqa: F401
    except ImportError:
        return None
    best = max(cnns, key=lambda one: one.accuracy or 0.0)  # the one that `validate` says to export
    row = next((row for row in board.rows if row.key == best.key), None)
    architecture = board.architecture(best.key)
    if row is None or architecture is None:
        return None
    network, standardised = _network(weights_path(db, board.study.name, best.key, "standard"), architecture, dataset)
    outputs = _timed_outputs(network, standardised, dataset.x_test, max_seconds, say)
    if isinstance(outputs, LeftOut):
        return outputs
    notes = [
        "The network was chosen by its accuracy on these very images, which flatters it a little."
        if len(cnns) > 1
        else "",
        _compared(outputs, dataset.y_test, best.accuracy or 0.0),
    ]
    return _predictions(
        row,
        f"the trained network of trial {row.trial} (recipe standard, {best.train_images:,} training images)",
        "test images",
        dataset.x_test,
        dataset.y_test,
        outputs,
        dataset.classes,
        notes,
    )


def _network(path: Path, architecture: Any, dataset: Dataset) -> tuple[Any, Callable[[NDArray[Any]], NDArray[Any]]]:
    from nas_cntk.errors import RecordsError
    from nas_cntk.export import cnn
    from nas_cntk.export.manifest import Network
    from nas_cntk.validate.artifacts import load_weights

    tensors, kept = load_weights(path)
    width, norm, how = kept.get("width"), kept.get("batch_norm"), kept.get("preprocessing")
    if not isinstance(width, int) or not isinstance(norm, bool) or not isinstance(how, dict):
        raise RecordsError(f"the weights {path.name} do not say how they are used; validate the trial with --force")
    about = Network(width, norm, "standard")
    network = cnn.build_network(architecture, dataset.image_shape, dataset.num_classes, about)
    cnn.load_state(network, {name: tensor.numpy() for name, tensor in tensors.items()}, path)
    mean, deviation = np.array(how["mean"]), np.array(how["deviation"])
    return network, lambda x: ((x.astype(np.float64) - mean) / deviation).astype(np.float32)


def _timed_outputs(
    network: Any,
    standardised: Callable[[NDArray[Any]], NDArray[Any]],
    x: NDArray[np.float32],
    max_seconds: float,
    say: Say,
) -> NDArray[np.float32] | LeftOut:
    from nas_cntk.export.cnn import outputs

    outputs(network, standardised(x[:2]))  # what is paid once
    started = time.perf_counter()
    first = outputs(network, standardised(x[:_TIMED]))
    left = (time.perf_counter() - started) / len(first) * (len(x) - len(first))
    if left > max_seconds:
        return _too_long(left, max_seconds, f"the network on {len(x):,} test images")
    if left > _WORTH_SAYING:
        say(f"asking the network about {len(x):,} test images: predicted {text.duration(left)}")
    rest = [outputs(network, standardised(x[at : at + 1024])) for at in range(len(first), len(x), 1024)]
    return np.concatenate([first, *rest])


def _of_kernel(board: Board, row: Row, dataset: Dataset, max_seconds: float, say: Say) -> Predictions | LeftOut:
    """Return the predictions of the best trial's kernel regression on the study's held-out images."""
    from nas_cntk import data, regression
    from nas_cntk.kernels import cost
    from nas_cntk.kernels.exact import kernel, resolve_backend
    from nas_cntk.scoring import SCORES

    architecture, identity = board.architecture(row.key), board.study.identity
    assert architecture is not None
    split = data.split(
        data.standardise(dataset), _int(identity["subset"]), _int(identity["holdout"]), _int(identity["seed"])
    )
    n, m = len(split.x), len(split.x_holdout)
    kinds = [kernel for name in board.directions if name in SCORES for kernel in SCORES[name].kernels]
    kind: Any = next(iter(kinds), "ntk") if architecture.trainable else "nngp"
    backend = resolve_backend("auto")
    seconds = cost.entry_layers(architecture, dataset.image_shape, n * (n + 1) // 2 + n * m) / cost.measure_rate(
        backend
    )
    if seconds > max_seconds:
        return _too_long(seconds, max_seconds, f"the kernel of {n:,} and {m:,} images")
    if seconds > _WORTH_SAYING:
        say(f"computing the kernel of trial {row.trial} once more: predicted {text.duration(seconds)}")
    options: dict[str, Any] = {"kind": kind, "backend": backend, "dtype": str(identity.get("dtype", "float32"))}
    ridge = row.ridge if row.ridge is not None else identity.get("ridge", 0.0)
    fitted = regression.fit(
        kernel(architecture, split.x, **options),
        split.y,
        dataset.num_classes,
        ridge,  # type: ignore[arg-type]
    )
    outputs = regression.predict(fitted, kernel(architecture, split.x_holdout, split.x, **options))
    notes = ["These images chose the architecture, which flatters it a little; validation tests on images of its own."]
    if row.proxy_accuracy is not None:
        notes.append(_compared(outputs, split.y_holdout, row.proxy_accuracy))
    return _predictions(
        row,
        f"the kernel regression of trial {row.trial} ({kind}, {n:,} training images)",
        "held-out images",
        dataset.x_train[split.holdout_indices],
        split.y_holdout,
        outputs,
        dataset.classes,
        notes,
    )


def _predictions(
    row: Row,
    model: str,
    where: str,
    images: NDArray[np.float32],
    truth: NDArray[np.int64],
    outputs: NDArray[Any],
    classes: tuple[str, ...],
    notes: Sequence[str],
) -> Predictions:
    predicted = outputs.argmax(axis=1).astype(np.int64)
    each = np.arange(len(truth))
    margin = (outputs[each, predicted] - outputs[each, truth]).astype(np.float64)
    kept = tuple(note for note in notes if note)
    return Predictions(row.trial, model, where, images, truth, predicted, margin, classes, kept)


def _compared(outputs: NDArray[Any], truth: NDArray[np.int64], recorded: float) -> str:
    """Say it where this machine's accuracy is not the recorded one."""
    here = float((outputs.argmax(axis=1) == truth).mean())
    if abs(here - recorded) * len(truth) < 0.5:
        return ""
    now, then = text.score("accuracy", here), text.score("accuracy", recorded)
    return f"Recomputed for this report it is right in {now}, recorded are {then}: another machine rounds otherwise."


def _too_long(seconds: float, limit: float, what: str) -> LeftOut:
    return LeftOut(
        f"{what} would take about {text.duration(seconds)}, more than {text.duration(limit)};"
        f" --max-seconds {max(1, round(1.5 * seconds))} includes it"
    )


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
