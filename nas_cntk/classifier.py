"""CNTKClassifier: kernel regression with an architecture's exact kernel, as a scikit-learn estimator.

This is the only module of the package that imports scikit-learn at its top; import it where the estimator is wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from nas_cntk import regression
from nas_cntk.architecture import Architecture
from nas_cntk.errors import RegressionError, UsageError
from nas_cntk.kernels.exact import kernel


class _ForBoth(RegressionError, ValueError):
    """Data that cannot be fitted: one of this package's errors, and the kind of error scikit-learn expects."""


class CNTKClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier by kernel regression with the exact kernel of an architecture; nothing is trained.

    Images should be standardised, for example by a `StandardScaler` on flattened images.

    Args:
        arch: the architecture; its ntk is the kernel.
        ridge: a multiple of the kernel's mean diagonal, or "loo": the best by leave-one-out.
        backend: as for `nas_cntk.kernel`.
        dtype: as for `nas_cntk.kernel`.
        image_shape: (h, w, c) of images that come flattened, shape (n, h w c). Without it a row of a matrix is one
            position of so many channels, an image of 1x1, and an architecture on it is a fully connected network.

    Attributes:
        classes_: the labels, in order.
        n_features_in_: the values of an image, h w c.
        image_shape_: (h, w, c) of the images that were fitted; None: rows of a matrix.
        images_: the images that were fitted, shape (n, h, w, c).
        fit_: the solved regression, with its leave-one-out scores, see `nas_cntk.regression.Fit`.
    """

    def __init__(
        self,
        arch: Architecture,
        ridge: float | Literal["loo"] = 0.0,
        backend: str = "auto",
        dtype: str = "float32",
        image_shape: Sequence[int] | None = None,
    ) -> None:
        self.arch = arch
        self.ridge = ridge
        self.backend = backend
        self.dtype = dtype
        self.image_shape = image_shape

    def fit(self, X: ArrayLike, y: ArrayLike) -> CNTKClassifier:
        """Fit the regression.

        Args:
            X: images, shape (n, h, w, c), or flattened, shape (n, h w c).
            y: labels of any kind, shape (n,).

        Raises:
            ValueError: on arrays that are no images and labels, or of one class.
            NasCntkError: if kernel or regression cannot be computed.
        """
        if not isinstance(self.arch, Architecture):
            raise UsageError(f"arch must be an Architecture, got {type(self.arch).__name__}; build one with Builder")
        flat, self.image_shape_ = self._flat(X, self.image_shape)
        flat, y = validate_data(self, flat, y, dtype=[np.float32, np.float64])
        check_classification_targets(y)
        images = self._images(flat)
        classes, labels = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise _ForBoth(f"all {len(images)} images are of one class, {classes[0]!r}; a classifier needs two classes")
        matrix = kernel(self.arch, images, backend=self.backend, dtype=self.dtype)
        self.fit_ = regression.fit(matrix, labels.astype(np.int64), len(classes), self.ridge)
        self.classes_ = classes
        self.images_ = images
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the outputs of the regression, shape (m, classes); of two classes the second less the first, (m,)."""
        check_is_fitted(self)
        flat, _ = self._flat(X, self.image_shape_)
        flat = validate_data(self, flat, reset=False, dtype=[np.float32, np.float64])
        matrix = kernel(self.arch, self._images(flat), self.images_, backend=self.backend, dtype=self.dtype)
        outputs = regression.predict(self.fit_, matrix)
        return outputs[:, 1] - outputs[:, 0] if len(self.classes_) == 2 else outputs

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the labels of images, shape (m,)."""
        outputs = self.decision_function(X)
        best = (outputs > 0).astype(int) if outputs.ndim == 1 else outputs.argmax(axis=1)
        labels: NDArray[Any] = self.classes_[best]
        return labels

    def _flat(self, X: ArrayLike, shape: Sequence[int] | None) -> tuple[ArrayLike, tuple[int, ...] | None]:
        """Return images as the matrix that scikit-learn checks, and their shape; None: of rows, as they are."""
        expected = None if shape is None else tuple(shape)
        ndim = np.ndim(X) if isinstance(X, (list, tuple)) else getattr(X, "ndim", None)
        if ndim != 4:
            return X, expected
        images = np.asarray(X)
        if expected is not None and images.shape[1:] != expected:
            raise _ForBoth(f"X holds images of shape {images.shape[1:]}, not {expected}; give images of that shape")
        return images.reshape(len(images), int(np.prod(images.shape[1:]))), images.shape[1:]

    def _images(self, flat: NDArray[Any]) -> NDArray[Any]:
        columns = flat.shape[1]
        shape = (1, 1, columns) if self.image_shape_ is None else self.image_shape_
        if len(shape) != 3 or np.prod(shape) != columns:
            raise _ForBoth(
                f"X has {columns} columns for image_shape {shape}; that must be (h, w, c), and columns h w c"
            )
        return flat.reshape(len(flat), *shape)
