"""What a validation is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nas_cntk.errors import UsageError
from nas_cntk.records.validations import KINDS, RECIPES

DEFAULT_TOP = 5
DEFAULT_SECONDS = 3600.0
# By measurement on the digits: beyond these the accuracies no longer rise by more than their standard error.
DEFAULT_EPOCHS: Mapping[str, int] = {"standard": 15, "paper": 10}
DEFAULT_WIDTH: Mapping[str, int] = {"standard": 64, "paper": 32}  # the paper's grid trains twelve networks


@dataclass(frozen=True, slots=True)
class Wishes:
    """The options of `validate`, checked."""

    trials: tuple[int, ...] = ()
    top: int | None = None
    spread: int | None = None
    recipe: str = "standard"
    epochs: int | None = None
    width: int | None = None
    train_images: int | None = None
    max_seconds: float = DEFAULT_SECONDS
    only: str | None = None
    flips: bool = False
    crops: bool = False
    devices: str = "auto"
    backend: str | None = None
    keep: bool = False
    force: bool = False
    cluster: str | None = None  # that computes the tiles of full kernels

    def __post_init__(self) -> None:
        if self.recipe not in RECIPES:
            raise UsageError(f"--recipe must be {' or '.join(RECIPES)}, got {self.recipe!r}")
        if self.only is not None and self.only not in KINDS:
            raise UsageError(f"--only must be {' or '.join(KINDS)}, got {self.only!r}")
        ways = [name for name, value in (("--top", self.top), ("--spread", self.spread)) if value is not None]
        ways += ["trial numbers"] if self.trials else []
        if len(ways) > 1:
            raise UsageError(f"{' and '.join(ways)} are two ways to choose trials; use one")
        if self.recipe == "paper" and (self.flips or self.crops):
            raise UsageError("the paper's recipe has no augmentation; leave --flips and --crops out")

        of_training = (
            ("--recipe", self.recipe != "standard"),
            ("--epochs", self.epochs is not None),
            ("--width", self.width is not None),
            ("--flips", self.flips),
            ("--crops", self.crops),
        )
        idle = [name for name, given in of_training if given]
        if self.only == "kernel" and idle:
            raise UsageError(f"--only kernel trains nothing; leave {' and '.join(idle)} out")
        if self.only == "cnn" and self.cluster is not None:
            raise UsageError("--only cnn computes no kernel that a cluster could help with; leave --cluster out")
        if self.only == "cnn" and self.keep:
            raise UsageError("--only cnn computes no kernel whose tiles could be kept; leave --keep out")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of validation that are wanted."""
        return KINDS if self.only is None else (self.only,)

    @property
    def epochs_of_recipe(self) -> int:
        """The epochs of one training."""
        return self.epochs or DEFAULT_EPOCHS[self.recipe]

    @property
    def width_of_recipe(self) -> int:
        """The channels of every conv; the paper's grid takes half of it too."""
        return self.width or DEFAULT_WIDTH[self.recipe]
