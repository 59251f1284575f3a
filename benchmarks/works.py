"""What is measured: architectures, image sizes and numbers of pairs."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas_cntk import Architecture, Builder, nasbench201
from nas_cntk.errors import IllegalArchitecture

PAPER_DEPTHS = (3, 4, 6, 11, 21)


@dataclass(frozen=True, slots=True)
class Work:
    """A chain of convs under a head, on square images with three channels.

    `goal` is the share of the counted bound, `goal_peer` the factor over neural-tangents, that it should reach.
    """

    name: str
    size: int
    convs: int
    head: str  # "global", "flatten" or "local"
    pool: int = 0
    goal: float = 0.0
    goal_peer: float = 0.0

    @property
    def architecture(self) -> Architecture:
        return chain(self.convs, self.head, self.pool)

    @property
    def entries(self) -> int:
        """Covariance entries of a pair that reach the head, which all layers carry: counted here, not by the engine."""
        if self.head == "global":
            return self.size**4
        reach = self.pool if self.head == "local" else 1
        return sum(self.size - abs(d) for d in range(1 - reach, reach)) ** 2

    @property
    def entry_layers(self) -> int:
        """Entry-layers of one pair."""
        return self.entries * self.convs


WORKS = (
    Work("global pooling 8x8", 8, 10, "global", goal=0.80, goal_peer=500),
    Work("global pooling 16x16", 16, 10, "global", goal=0.80, goal_peer=500),
    Work("global pooling 32x32", 32, 10, "global", goal=0.75, goal_peer=500),
    Work("local pooling k = 9, 32x32", 32, 10, "local", pool=9, goal=0.70),
    Work("flatten 32x32", 32, 10, "flatten", goal=0.60, goal_peer=40),
)


def chain(convs: int, head: str = "flatten", pool: int = 0, frozen_ends: bool = False) -> Architecture:
    """Return 3x3 convs with relu under a head; `frozen_ends` is the paper's CNTK-GAP: first conv and dense fixed."""
    b = Builder()
    x = b.input()
    for layer in range(convs):
        x = b.relu(b.conv(x, 3, trainable=not (frozen_ends and layer == 0)))
    if head == "local":
        x = b.avg_pool(x, pool)
    b.dense(b.global_avg_pool(x) if head == "global" else b.flatten(x), trainable=not frozen_ends)
    return b.build()


def cntk_v(depth: int) -> Architecture:
    """Return the paper's CNTK-V: depth - 1 convs and the readout, flatten, everything trained."""
    return chain(depth - 1)


def heads_by_depths(depths: int) -> tuple[list[Architecture], Architecture]:
    """Return chains of 1 to `depths` convs under three heads each, and the deepest under global pooling."""
    family = [chain(convs, head, 3) for convs in range(1, depths + 1) for head in ("flatten", "local", "global")]
    return family, family[-1]


class Draw:
    """A trial that draws at random: enough of Optuna's interface for a space to propose."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return self._random.randrange(low, high + 1, step)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return self._random.uniform(low, high)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._random.choice(list(choices))


def of_spaces(image_shape: tuple[int, int, int]) -> list[tuple[str, Architecture]]:
    """Return one net of each shipped space: the first legal one of seeds 0, 1, 2, ..."""
    from nas_cntk.search.spaces import load_space, shipped_spaces

    found = []
    for name in shipped_spaces():
        space = load_space(name)
        for seed in range(100):
            try:
                found.append((name, space.propose(Draw(seed), image_shape)))
            except IllegalArchitecture:
                continue
            break
    return found


def nasbench201_cells(count: int) -> list[Architecture]:
    """The networks of `count` live NAS-Bench-201 cells, drawn without replacement with seed 0."""
    names = list(nasbench201.every())
    order = np.random.default_rng(0).permutation(len(names))
    live = (names[at] for at in order if nasbench201.is_live(names[at]))
    return [nasbench201.architecture(text) for text in itertools.islice(live, count)]
