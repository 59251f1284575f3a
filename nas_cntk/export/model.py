"""An exported model of either kind, loaded: images in, scores or classes out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas_cntk.architecture import Architecture
from nas_cntk.errors import ArchitectureError, DataError, ModelError, UsageError
from nas_cntk.export.images import read_images
from nas_cntk.export.kernel import KernelModel, load_kernel, predict_kernel
from nas_cntk.export.manifest import ARCHITECTURE, Manifest, Network, read_manifest
from nas_cntk.regression import Float

if TYPE_CHECKING:
    import torch


def load_model(folder: str | Path, backend: str = "auto") -> Model:
    """Return the model in a folder that `nas-cntk export` wrote, a network or a kernel regression.

    A network is built from architecture.json and weights.safetensors; no code in the folder is run.

    Args:
        folder: what `--to` named.
        backend: of a kernel regression, as for `nas_cntk.kernel`; a network has none.

    Raises:
        ModelError: if there is no whole model in the folder, or its network is not trained.
        UsageError: if a backend is asked for, and the model has no kernel.
        BackendUnavailable: if the backend, or torch for a network, is not installed.
    """
    place = Path(folder).expanduser()
    manifest = read_manifest(place)
    if not isinstance(manifest.model, Network):
        from nas_cntk.kernels.exact import resolve_backend

        chosen = resolve_backend(backend)
        return Model(manifest, load_kernel(place, manifest, _architecture(place, manifest)), chosen)
    if backend != "auto":
        raise UsageError(f"backend {backend} is for kernel models, this one is a network; leave it out")
    from nas_cntk.export.cnn import load_network

    return Model(manifest, load_network(place, manifest, _architecture(place, manifest)), None)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Model:
    """A model to ask, as `nas_cntk.load_model` returns it.

    Scores of a network are probabilities (softmax); those of a kernel regression are its outputs plus 1/classes, near
    1 for the class and 0 for others, in sum 1, and may lie outside of [0, 1].
    """

    manifest: Manifest
    fitted: KernelModel | torch.nn.Module
    backend: str | None  # that computes the kernel

    def __repr__(self) -> str:
        h, w, c = self.image_shape
        return f"<{self.kind} of {len(self.classes)} classes for images of {h} x {w} x {c}>"

    @property
    def kind(self) -> str:
        """What it is, in words: network or kernel regression."""
        return "kernel regression" if isinstance(self.fitted, KernelModel) else "network"

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the scores."""
        return self.manifest.classes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the images that it reads."""
        return self.manifest.image_shape

    def read(self, spec: str | Path) -> NDArray[np.float32]:
        """Return the images, shape (n, h, w, c), that `nas-cntk predict` reads: pixel values, not standardised.

        Args:
            spec: the path of an image file, or data as `predict` takes them; files of a folder are in the order of
                their names. What is not read there is a warning.

        Raises:
            DataError: if they cannot be read, or are not what the model reads.
        """
        images = read_images(str(spec), self.image_shape, resize=self.manifest.resize)
        for note in images.notes:
            warnings.warn(note, stacklevel=2)
        return images.x

    def scores(self, images: ArrayLike, *, progress: Callable[[float], None] | None = None) -> Float:
        """Return the scores of the classes, shape (n, classes), as `nas-cntk predict` writes them.

        Args:
            images: shape (n, h, w, c), pixel values as `read` returns them: floats, not standardised.
            progress: called with the fraction done, by a kernel regression.

        Raises:
            DataError: if they are no such images.
            KernelError: if the kernel cannot be computed.
            ModelError: if what the model says of the images is no number.
        """
        checked = _checked(images, self.image_shape)
        with np.errstate(over="ignore", invalid="ignore"):
            scores = self._scores(self.manifest.standardised(checked), progress)
        if not np.isfinite(scores).all():
            raise ModelError("what the model says of these images is not finite; export the model again")
        return scores

    def _scores(self, x: NDArray[np.float32], progress: Callable[[float], None] | None) -> Float:
        if isinstance(self.fitted, KernelModel):
            assert self.backend is not None
            return predict_kernel(self.fitted, x, self.backend, progress) + 1 / len(self.classes)
        from nas_cntk.export.cnn import predict_network

        return predict_network(self.fitted, x)

    def predict(self, images: ArrayLike) -> NDArray[np.str_]:
        """Return the names of the classes, shape (n,), with the best scores; of equal ones the first.

        Arguments and errors are those of `scores`.
        """
        names: NDArray[np.str_] = np.array(self.classes)[self.scores(images).argmax(axis=1)]
        return names


def _checked(images: ArrayLike, shape: tuple[int, int, int]) -> NDArray[Any]:
    try:
        x = np.asarray(images)
    except ValueError:
        raise DataError("images must be an array of images of one size") from None
    if x.ndim != 4 or x.shape[1:] != shape or not len(x):
        raise DataError(f"images have shape {x.shape}, the model reads (n, {', '.join(map(str, shape))})")
    if x.dtype.kind != "f":
        raise DataError(
            f"images are {x.dtype}, no floats: give pixel values as the model's README.md says,"
            " those of 8-bit images divided by 255"
        )
    if not np.isfinite(x).all():
        raise DataError("images hold NaN or infinite pixels: repair or drop them")
    return x


def _architecture(folder: Path, manifest: Manifest) -> Architecture:
    from nas_cntk.search.single import read_architecture

    if not (folder / ARCHITECTURE).exists():
        raise ModelError(f"{folder} has no {ARCHITECTURE}; export the model again")
    if not (folder / ARCHITECTURE).is_file():
        raise ModelError(f"{folder / ARCHITECTURE} is no regular file; export the model again")
    try:
        architecture = read_architecture(str(folder / ARCHITECTURE))
        architecture.check(manifest.image_shape)
    except ArchitectureError as error:
        raise ModelError(f"{folder} is damaged: {error}; export the model again") from None
    return architecture
