"""Neural architecture search with exact convolutional neural tangent kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas_cntk.architecture import Architecture, Builder
from nas_cntk.kernels.exact import kernel, kernel_family

if TYPE_CHECKING:
    from nas_cntk.classifier import CNTKClassifier
    from nas_cntk.export.model import load_model
    from nas_cntk.kernels.gram import gram, gram_family
    from nas_cntk.scoring import score_architecture
    from nas_cntk.validate.finite import finite_network

__version__ = "0.1.0"

__all__ = [
    "Architecture",
    "Builder",
    "CNTKClassifier",
    "finite_network",
    "gram",
    "gram_family",
    "kernel",
    "kernel_family",
    "load_model",
    "score_architecture",
]

# Imported on first use: a program that only wants a kernel need not wait for scipy, zarr or torch.
_LATER = {
    "CNTKClassifier": "nas_cntk.classifier",
    "finite_network": "nas_cntk.validate.finite",
    "gram": "nas_cntk.kernels.gram",
    "gram_family": "nas_cntk.kernels.gram",
    "load_model": "nas_cntk.export.model",
    "score_architecture": "nas_cntk.scoring",
}


def __getattr__(name: str) -> object:
    if name in _LATER:
        from importlib import import_module

        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'nas_cntk' has no attribute {name!r}")
