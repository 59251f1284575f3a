"""Predicting with an exported model of either kind, and the CSV of it."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from nas_cntk.data.sources import counted
from nas_cntk.errors import UsageError
from nas_cntk.export.images import Images, read_images
from nas_cntk.export.kernel import KernelModel
from nas_cntk.export.model import Model, load_model
from nas_cntk.export.screen import Screen
from nas_cntk.files import require_writable, whole
from nas_cntk.regression import Float, standard_error
from nas_cntk.report import text

WORTH_SAYING = 2.0  # seconds
WORTH_TIMING = {"reference": 1e5}  # entry-layers of which a forecast is worth what it costs to time the backend
OTHERWISE = 2e8


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What a model says of images; the scores are those of `Model`."""

    images: Images
    classes: tuple[str, ...]
    scores: Float  # shape: (m, classes)

    @property
    def labels(self) -> NDArray[np.int64]:
        """The classes predicted, shape (m,); of equal scores the first."""
        best: NDArray[np.int64] = self.scores.argmax(axis=1)
        return best

    @property
    def margins(self) -> Float:
        """By how much the best score exceeds the second, shape (m,)."""
        two = np.partition(self.scores, -2, axis=1)[:, -2:]
        margins: Float = two[:, 1] - two[:, 0]
        return margins

    def accuracy(self) -> tuple[float, float] | None:
        """Accuracy and its standard error, if every image comes with the name of a class."""
        true = self.images.labels
        if true is None or not set(true) <= set(self.classes):
            return None
        correct = float(np.mean([self.classes[i] == name for i, name in zip(self.labels, true, strict=True)]))
        return correct, standard_error(correct, len(true))

    def write(self, stream: IO[str]) -> None:
        """Write the CSV: image, label, margin, and a column of scores a class."""
        out = csv.writer(stream, lineterminator="\n")
        out.writerow(["image", "label", "margin", *(f"score_{name}" for name in self.classes)])
        rows = zip(self.images.names, self.labels, self.margins, self.scores, strict=True)
        for name, label, margin, scores in rows:
            out.writerow([name, self.classes[label], f"{margin:.9g}", *(f"{score:.9g}" for score in scores)])


def predict(
    folder: str, spec: str, screen: Screen, *, backend: str | None = None, skip_bad: bool = False
) -> Predictions:
    """Return what the model in a folder says of images.

    Raises:
        ModelError: if there is no whole model in the folder.
        DataError: if the images cannot be read, or are not what the model reads.
        UsageError: if a backend is asked for, and the model has no kernel.
    """
    model = load_model(folder, backend or "auto")
    images = read_images(spec, model.image_shape, resize=model.manifest.resize, skip_bad=skip_bad)
    for note in images.notes:
        screen.say(f"note: {note}")
    scores = model.scores(images.x, progress=_forecast(model, len(images.x), screen))
    predictions = Predictions(images, model.classes, scores)
    count = counted(len(images.names), images.what.removesuffix("s"))
    screen.say(f"{model.kind}: {count} of {spec} predicted{_judged(predictions)}")
    return predictions


def _judged(predictions: Predictions) -> str:
    found = predictions.accuracy()
    if found is not None:
        note = "; if training images are among them, this flatters the model"
        return f"; accuracy {text.score('accuracy', *found)}{'' if predictions.images.what == 'test images' else note}"
    if predictions.images.labels is None:
        return ""
    return "; their own labels are no classes of the model, so there is no accuracy"


def _forecast(model: Model, images: int, screen: Screen) -> Callable[[float], None] | None:
    """Say what the kernels of many images will take, and return whom to tell how far they are."""
    if not isinstance(model.fitted, KernelModel):
        return None
    from nas_cntk.kernels import cost

    assert model.backend is not None
    work = cost.entry_layers(model.fitted.architecture, model.image_shape, images * len(model.fitted.images))
    if work <= WORTH_TIMING.get(model.backend, OTHERWISE):
        return None
    seconds = work / cost.measure_rate(model.backend)
    if seconds <= WORTH_SAYING:
        return None
    screen.say(f"predicted: {text.duration(seconds)} for {images:,} images, backend {model.backend}")
    return screen.progress(work)


def write_stdout(predictions: Predictions) -> None:
    """Write the CSV to standard output; whoever reads it may stop.

    Raises:
        UsageError: if it cannot be written.
    """
    try:
        if sys.stdout.isatty():  # a class may be called anything, an escape sequence too
            written = io.StringIO()
            predictions.write(written)
            sys.stdout.write(text.clean(written.getvalue(), "\n"))
        else:
            predictions.write(sys.stdout)
        sys.stdout.flush()
    except OSError as error:
        # What is still in the buffer would be tried again, and fail again, at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # as in `| head`, which has read enough
            raise UsageError(
                f"standard output cannot be written: {error.strerror}; name a file with --output"
            ) from None


def write_csv(path: str, predictions: Predictions) -> None:
    """Write the CSV to a file, which appears, or is replaced, whole; a pipe or a device is written to.

    Raises:
        UsageError: if it cannot be written.
    """
    with _said(path) as target, whole(target) as file:
        stream = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="")
        predictions.write(stream)
        stream.detach()


def check_output(path: str) -> None:
    """Raise UsageError if no file can be written there, before anything is computed."""
    with _said(path) as target:
        require_writable(target)


@contextmanager
def _said(path: str) -> Iterator[Path]:
    """Give the file that was asked for; say what stands in the way of writing it."""
    try:
        yield Path(path).expanduser()
    except (OSError, ValueError, RuntimeError) as error:  # a null byte in the name; no home of "~someone"
        raise UsageError(f"--output {path} cannot be written: {getattr(error, 'strerror', None) or error}") from None
