"""Every reader that is fuzzed, by name."""

from __future__ import annotations

from collections.abc import Callable

from fuzz import architecture, cifar10, config, folder, idx, model, npz
from fuzz.harness import Reader

READERS: dict[str, Callable[[], Reader]] = {
    "architecture": architecture.make,
    "cifar10": cifar10.make,
    "idx": idx.make,
    "npz": npz.make,
    "folder": folder.make,
    "config": config.make,
    "model": model.make,
}
