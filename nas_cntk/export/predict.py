"""Predicting with an exported model of either kind, and the CSV of it."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from nas_cntk.architecture import Architecture
from nas_cntk.data.sources import counted
from nas_cntk.errors import ArchitectureError, ModelError, UsageError
from nas_cntk.export.images import Images, read_images
from nas_cntk.export.manifest import ARCHITECTURE, Manifest, Network, read_manifest
from nas_cntk.export.screen import Screen
from nas_cntk.regression import Float, standard_error
from nas_cntk.report import text

WORTH_SAYING = 2.0  # seconds
WORTH_TIMING = {"reference": 1e5}  # entry-layers of which a forecast is worth what it costs to time the backend
OTHERWISE = 2e8


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What a model says of images.

    Scores of a network are probabilities (softmax); those of a kernel regression are its outputs plus 1/classes, near
    1 for the class and 0 for others, in sum 1, and may lie outside of [0, 1].
    """

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

    A network is built from architecture.json and weights.safetensors; no code in the folder is run.

    Raises:
        ModelError: if there is no whole model in the folder.
        DataError: if the images cannot be read, or are not what the model reads.
        UsageError: if a backend is asked for, and the model has no kernel.
    """
    place = Path(folder).expanduser()
    manifest = read_manifest(place)
    network = isinstance(manifest.model, Network)
    if network and backend is not None:
        raise UsageError("--backend is for kernel models, this one is a network; leave it out")
    architecture = _architecture(place, manifest)
    ask = (
        _network(place, manifest, architecture) if network else _kernel(place, manifest, architecture, backend, screen)
    )
    images = read_images(spec, manifest.image_shape, resize=manifest.resize, skip_bad=skip_bad)
    for note in images.notes:
        screen.say(f"note: {note}")
    predictions = Predictions(images, manifest.classes, ask(manifest.standardised(images.x)))
    kind = "network" if network else "kernel regression"
    count = counted(len(images.names), images.what.removesuffix("s"))
    screen.say(f"{kind}: {count} of {spec} predicted{_judged(predictions)}")
    return predictions


def _judged(predictions: Predictions) -> str:
    found = predictions.accuracy()
    if found is not None:
        note = (
            "" if predictions.images.what == "test images" else ", those it was made of among them, if they are there"
        )
        return f"; accuracy {text.score('accuracy', *found)}{note}"
    if predictions.images.labels is None:
        return ""
    return "; their own labels are no classes of the model, so there is no accuracy"


def _architecture(folder: Path, manifest: Manifest) -> Architecture:
    from nas_cntk.search.single import read_architecture

    if not (folder / ARCHITECTURE).exists():
        raise ModelError(f"{folder} has no {ARCHITECTURE}; export the model again")
    try:
        architecture = read_architecture(str(folder / ARCHITECTURE))
        architecture.check(manifest.image_shape)
    except ArchitectureError as error:
        raise ModelError(f"{folder} is damaged: {error}; export the model again") from None
    return architecture


def _network(folder: Path, manifest: Manifest, architecture: Architecture) -> Callable[[NDArray[np.float32]], Float]:
    from nas_cntk.export import cnn

    network: Any = cnn.load_network(folder, manifest, architecture)
    return lambda x: cnn.predict_network(network, x)


def _kernel(
    folder: Path, manifest: Manifest, architecture: Architecture, backend: str | None, screen: Screen
) -> Callable[[NDArray[np.float32]], Float]:
    from nas_cntk.export import kernel
    from nas_cntk.kernels import cost
    from nas_cntk.kernels.exact import resolve_backend

    name = resolve_backend(backend or "auto")
    model = kernel.load_kernel(folder, manifest, architecture)

    def ask(x: NDArray[np.float32]) -> Float:
        work = cost.entry_layers(architecture, manifest.image_shape, len(x) * len(model.images))
        seconds = work / cost.measure_rate(name) if work > WORTH_TIMING.get(name, OTHERWISE) else 0.0
        if seconds > WORTH_SAYING:
            screen.say(f"predicted: {text.duration(seconds)} for {len(x):,} images, backend {name}")
        progress = screen.progress(work) if seconds > WORTH_SAYING else None
        return kernel.predict_kernel(model, x, name, progress) + 1 / len(manifest.classes)

    return ask


def write_stdout(predictions: Predictions) -> None:
    """Write the CSV to standard output; whoever reads it may stop.

    Raises:
        UsageError: if it cannot be written.
    """
    try:
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
    with _writing(path) as (partial, target):
        with partial.open("w", encoding="utf-8", errors="replace", newline="") as stream:
            predictions.write(stream)
            stream.flush()
            if partial != target:
                os.fsync(stream.fileno())
        if partial != target:
            os.replace(partial, target)


def check_output(path: str) -> None:
    """Raise UsageError if no file can be written there, before anything is computed."""
    with _writing(path) as (partial, target):
        if target.is_dir():
            raise UsageError(f"--output {path} is a folder; name a file")
        if partial != target:
            partial.open("w").close()


@contextmanager
def _writing(path: str) -> Iterator[tuple[Path, Path]]:
    """Give the file to write and the file that it becomes."""
    try:
        target = Path(path).expanduser()
        if target.exists() and not target.is_file() and not target.is_dir():
            yield target, target
            return
        target = target.resolve()  # a link stays, and what it leads to is replaced
        partial = target.with_name(f".{target.name[:80]}.{os.getpid()}.partial")
        try:
            yield partial, target
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, ValueError, RuntimeError) as error:  # a null byte in the name; no home of "~someone"
        raise UsageError(f"--output {path} cannot be written: {getattr(error, 'strerror', None) or error}") from None
