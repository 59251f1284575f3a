"""Neural architecture search with exact convolutional neural tangent kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas_cntk.architecture import Architecture, Builder
from nas_cntk.kernels.exact import kernel, kernel_family

if TYPE_CHECKING:
    from nas_cntk.scoring import score_architecture
    from nas_cntk.validate.finite import finite_network

__version__ = "0.1.0"

__all__ = ["Architecture", "Builder", "finite_network", "kernel", "kernel_family", "score_architecture"]


def __getattr__(name: str) -> object:
    # Imported on first use: a program that only wants a kernel need not wait for scipy.
    if name == "score_architecture":
        from nas_cntk.scoring import score_architecture

        return score_architecture
    if name == "finite_network":
        from nas_cntk.validate.finite import finite_network

        return finite_network
    raise AttributeError(f"module 'nas_cntk' has no attribute {name!r}")
