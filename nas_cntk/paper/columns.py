"""The columns of the paper's tables: what is computed, on how many images, and what the paper has there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nas_cntk.architecture import Architecture
from nas_cntk.paper import figures, networks

ARCHITECTURES: Mapping[str, Callable[[int], Architecture]] = {
    "V": networks.vanilla,
    "GAP": networks.pooled,
    "FC": networks.fully_connected,
}


@dataclass(frozen=True, slots=True)
class Size:
    """Pixels of a side, training images, test images."""

    side: int
    train: int
    test: int

    def words(self) -> str:
        """Return it for the head of a column: training plus test images."""
        count = f"{self.train:,} + {self.test:,}" if self.test else f"{self.train:,}"
        return f"{count} images of {self.side}x{self.side}"


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name in the paper, and how its cells are computed."""

    name: str
    kind: str  # cnn | ntk | nngp | features
    head: str  # V | GAP | FC
    small: Size  # without --full, where the data have as many
    paper: Size | None = None
    printed: tuple[float, ...] = ()  # %, by `figures.DEPTHS`
    share: float = 1.0  # of the training images that there are, at most

    def architecture(self, depth: int) -> Architecture:
        """Return the architecture of a depth, the paper's count."""
        return ARCHITECTURES[self.head](depth)

    def figure(self, depth: int) -> float | None:
        """Return the paper's accuracy at a depth, in [0, 1]; None where it prints none."""
        if depth not in figures.DEPTHS or not self.printed:
            return None
        return self.printed[figures.DEPTHS.index(depth)] / 100


_FULL = Size(figures.SIDE, figures.TRAIN, figures.TEST)
_FULL_2K = Size(figures.SIDE, figures.TRAIN_2K, figures.TEST)
_FULL_CIFAR2 = Size(figures.SIDE, figures.TRAIN_CIFAR2, figures.TEST_CIFAR2)

# Small sizes: what two cores do in a few minutes for a table. Global pooling at 32x32 is a thousand times flatten.
_SMALL_CNN = Size(8, 500, 2_000)
_SMALL_FEATURES = Size(8, 100, 200)


def _table_1(name: str, kind: str, head: str, small: Size, paper: Size, share: float = 1.0) -> Column:
    return Column(name, kind, head, small, paper, figures.TABLE_1[name], share)


def _table_2(name: str, kind: str, head: str) -> Column:
    return Column(name, kind, head, _SMALL_FEATURES, _FULL_CIFAR2, figures.TABLE_2[name])


TABLE_1 = (
    _table_1("CNN-V", "cnn", "V", _SMALL_CNN, _FULL),
    _table_1("CNTK-V", "ntk", "V", Size(32, 3_000, 1_000), _FULL),
    _table_1("CNTK-V-2K", "ntk", "V", _FULL_2K, _FULL_2K, 0.5),
    _table_1("CNN-GAP", "cnn", "GAP", _SMALL_CNN, _FULL),
    _table_1("CNTK-GAP", "ntk", "GAP", Size(8, 1_400, 1_000), _FULL),
    _table_1("CNTK-GAP-2K", "ntk", "GAP", Size(8, 700, 1_000), _FULL_2K, 0.5),
)

TABLE_2 = (
    _table_2("RF-V", "features", "V"),
    _table_2("CNTK-V", "ntk", "V"),
    _table_2("RF-GAP", "features", "GAP"),
    _table_2("CNTK-GAP", "ntk", "GAP"),
)

# Weakly trained beside fully trained; the paper prints no such table.
GP = (
    Column("GP-V", "nngp", "V", Size(32, 2_000, 1_000), _FULL_2K),
    Column("CNTK-V", "ntk", "V", Size(32, 2_000, 1_000), _FULL_2K),
    Column("GP-GAP", "nngp", "GAP", Size(8, 1_000, 1_000), _FULL_2K),
    Column("CNTK-GAP", "ntk", "GAP", Size(8, 1_000, 1_000), _FULL_2K),
)

# Distances on a few images; `train` images of theorem1 are those between which the kernels are taken.
THEOREM_1 = (
    Column("FC", "distance", "FC", Size(8, 10, 0)),
    Column("CNN-V", "distance", "V", Size(8, 10, 0)),
    Column("CNN-GAP", "distance", "GAP", Size(8, 10, 0)),
)
THEOREM_2 = (Column("FC", "training", "FC", Size(8, 10, 50)),)
