"""What a benchmark is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from nas_cntk.benchmark.table import TARGET
from nas_cntk.errors import UsageError
from nas_cntk.scores import SCORES, parse_scores

# Everything but short training, which takes a minute a cell and more.
DEFAULT_SCORES = tuple(name for name in SCORES if name != "short_training")
TRAIN_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Wishes:
    """The options of `nas-cntk benchmark nasbench201`."""

    table: str
    data: str
    target: str = TARGET
    cells: int = 300
    distinct: bool = False  # equal networks count once
    seed: int = 0
    scores: tuple[str, ...] = DEFAULT_SCORES
    image_size: int = 8
    subset: int = 500
    holdout: int = 1000
    cells_per_stage: int = 1
    backend: str = "auto"
    train_seconds: float = TRAIN_SECONDS
    download: bool = False

    def __post_init__(self) -> None:
        if self.cells < 2:
            raise UsageError(f"--cells must be 2 or more to rank anything, got {self.cells}")
        parse_scores(self.scores)
