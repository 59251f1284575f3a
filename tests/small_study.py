"""A small study of coloured images to export from, and a screen that remembers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from nas_cntk.architecture import Architecture
from nas_cntk.validate.artifacts import save_weights, weights_path
from nas_cntk.validate.standard import StandardNetwork, standard_network

SHAPE = (6, 5, 3)
CLASSES = ("ant", "bee, small", "cat")
SPACE = """
from nas_cntk import Builder

def propose(trial, image_shape):
    b = Builder()
    x = b.conv(b.input(), trial.suggest_categorical("kernel", [1, 3, 5]))
    x = b.add(x, b.conv(b.relu(x), 3), b.avg_pool(x, 3, 1, "same"))
    b.dense(b.global_avg_pool(b.relu(x)))
    return b.build()
"""


@dataclass
class Said:
    """A screen that remembers."""

    lines: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        self.lines.append(line)

    def progress(self, entry_layers: float) -> Callable[[float], None] | None:
        return None


@dataclass(frozen=True)
class Small:
    """A study of three trials on images of three classes."""

    db: str
    npz: Path
    architecture: Architecture  # of trial 0

    def train(self) -> StandardNetwork:
        """Leave weights as validation would, in the place where it would."""
        net = standard_network(self.architecture, SHAPE, 3, width=8, seed=5)
        with torch.no_grad():
            net.train()(torch.randn(64, 3, 6, 5, generator=torch.Generator().manual_seed(0)))  # running moments
        path = weights_path(self.db, "small", self.architecture.key, "standard")
        save_weights(path, net.state_dict(), {"width": 8, "batch_norm": True, "classes": list(CLASSES)})
        return net.eval()


def images(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return bytes (n, *SHAPE) and class names (n,): classes differ in colour."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    x = rng.integers(0, 160, (n, *SHAPE))
    x[np.arange(n), :, :, y] += 60
    return x.astype(np.uint8), np.array(CLASSES)[y]
