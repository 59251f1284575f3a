"""What gram.cu is given: tiles of threads, sheets of images, operations, launches, programs.

The numbers of `Kind`, `Flag` and FIELD_WORDS are those of the enumerations in gram.cu.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from nas_cntk.kernels.fields import Fields
from nas_cntk.ops import Shape

Integers = NDArray[np.int64]

WARP = 32
SLOTS = (0, 4, 16)  # planes that a thread can keep aside: what kernels are compiled for
MOST_ENTRIES = 32  # of a thread's tile: S and T take 64 of 128 registers in float32, 128 of 255 in float64
MOST_HEADS = 64  # of a program: their sums are kept in shared memory, two numbers a head and plane under way
BLOCK_THREADS = {4: 512, 8: 256}  # by bytes of a value: 128 and 255 registers a thread

OP = np.dtype([("kind", "i4"), ("a", "i4"), ("b", "i4"), ("c", "i4"), ("x", "f8")])


class Kind(IntEnum):
    """As `OpKind` of gram.cu."""

    INPUT = 0
    ZERO = 1
    LOAD = 2
    STORE = 3
    KEEP = 4
    FETCH = 5
    ADD = 6
    ADD_FIELD = 7
    SCALE = 8
    RELU = 9
    CONV = 10
    LAYER = 11
    ALIGNED = 12
    HEAD = 13
    VARIANCE = 14


class Flag(IntEnum):
    """As `FieldFlag` of gram.cu."""

    ADD_S = 1
    NONNEGATIVE = 2
    NO_INPUT = 4
    FIRST = 8


FIELD_WORDS = (
    "rows", "columns", "out_s", "out_t", "in_s", "in_t", "in_rows", "in_columns", "row_left", "row_right",
    "column_left", "column_right", "row_start", "row_list", "column_start", "column_list", "row_weight",
    "column_weight", "flags", "left_sheet", "right_sheet", "sheet", "channels", "left_width", "right_width", "head",
    "out_words",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tile:
    """The entries of a plane that one thread keeps."""

    height: int
    width: int

    def threads(self, shape: Shape) -> int:
        """Return the threads that a plane of a map takes; at most a warp's."""
        return -(-shape[0] // self.height) * -(-shape[1] // self.width)

    def pitch(self, shape: Shape) -> int:
        """Return the elements from row to row of a right image's sheet.

        Column j is word j // width of part j % width, so that threads side by side read neighbours; threads below each
        other read `height` rows apart and shall find them as many banks apart as threads are side by side.
        """
        across = -(-shape[1] // self.width)
        least = across * self.width
        for pad in range(WARP):
            if (self.height * (least + pad) - across) % WARP == 0:
                return least + pad
        return least + (least + 1) % 2


@dataclass(frozen=True, slots=True)
class Limits:
    """What the device offers: bytes of shared memory of a block, and of all blocks of a multiprocessor."""

    block_shared: int = 227 * 1024
    shared: int = 228 * 1024
    tile: Callable[[Shape], Tile | None] | None = None  # instead of `thread_tile`


@dataclass(frozen=True, slots=True)
class Sheets:
    """What relus (and the input) read of one image on maps of one size: channels, then sqrt of variance maps."""

    shape: Shape
    channels: int
    fields: tuple[int, ...]
    tile: Tile | None  # of the stretches of this size; None if there are none

    @property
    def count(self) -> int:
        return self.channels + len(self.fields)

    @property
    def area(self) -> int:
        return self.shape[0] * self.shape[1]

    @property
    def across(self) -> int:
        assert self.tile is not None
        return -(-self.shape[1] // self.tile.width)

    @property
    def left_size(self) -> int:
        """Elements of one sheet as a left image's is read: whole tiles."""
        if self.tile is None:
            return 0
        return -(-self.shape[0] // self.tile.height) * self.tile.height * self.across * self.tile.width

    @property
    def pitch(self) -> int:
        """Elements from row to row of a right image's sheet."""
        return self.tile.pitch(self.shape) if self.tile is not None else 0

    @property
    def right_size(self) -> int:
        """Elements of one sheet as a right image's is read: rows repeated below, so that no row of a tile wraps."""
        return (self.shape[0] + self.tile.height - 1) * self.pitch if self.tile is not None else 0

    @property
    def elements(self) -> int:
        """Elements of all sheets of one image, in the three forms."""
        return self.count * (self.area + self.left_size + self.right_size)

    def index(self, number: int) -> int:
        """Return the sheet of a variance field."""
        return self.channels + self.fields.index(number)


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch of a stretch.

    Args:
        planes: shape (n, 3): di, dj and how many of the operations the plane goes through.
        itself: the plane (0, 0) of images paired with themselves, which writes the sheets that it reads.
        staged: whether a block's sheets are copied to shared memory.
        warps, per_pair: of a block: its warps, and the planes of one pair that it takes side by side.
    """

    planes: NDArray[np.int32]
    itself: bool
    staged: bool
    warps: int
    per_pair: int
    pairs: int  # of a block
    shared: int  # bytes of a block
    words: Integers


@dataclass(frozen=True, slots=True)
class Stretch:
    """Operations on planes of one map size."""

    sheets: Sheets
    slots: int
    ops: NDArray[np.void]
    launches: tuple[Launch, ...]


@dataclass(frozen=True, slots=True)
class Single:
    """One field, or one term of it, computed from global memory by the kernel of that name.

    Args:
        left, right: the sheets it reads of the left and the right image, if any.
        entries: of the result, one pair; 0 for a head, which takes one block a pair.
    """

    kernel: str
    words: Integers
    reals: NDArray[np.float64]
    left: Sheets | None
    right: Sheets | None
    entries: int


@dataclass(frozen=True, slots=True)
class Program:
    """Steps in order; `written` are, step by step, the sheets that are complete after it (variance maps alone)."""

    steps: tuple[Stretch | Single, ...]
    written: tuple[Sheets | None, ...]
    stored: Integers  # shape: (n, 6): descriptors of the fields that stretches load and store
    tables: NDArray[np.int32]
    weights: NDArray[np.float64]
    elements: int  # of one pair in global memory
    heads: int


@dataclass(frozen=True, slots=True)
class CudaPlan:
    """Programs of a family: the variance maps of single images, then pairs."""

    family: Fields
    sheets: tuple[Sheets, ...]
    own: Program
    main: tuple[Program, ...]  # of at most MOST_HEADS heads each
    itemsize: int
    tangents: bool
    entries: int  # relu entries of one pair: the work

    @property
    def image_bytes(self) -> int:
        """Bytes of the sheets of one image."""
        return self.itemsize * sum(one.elements for one in self.sheets)


def thread_tile(shape: Shape) -> Tile | None:
    """Return the tile of a thread for maps of `shape`; None if a plane is too large for a warp.

    Large tiles exchange less, but must fit in the registers; 32 threads shall be used as far as the shape allows.
    """
    best: tuple[float, Tile] | None = None
    for height in range(1, min(shape[0], 16) + 1):
        for width in range(1, min(shape[1], 8) + 1):
            tile = Tile(height, width)
            threads = tile.threads(shape)
            if threads > WARP or height * width > MOST_ENTRIES:
                continue
            used = shape[0] * shape[1] * (WARP // threads) / (WARP * height * width)
            # Counted: 33 instructions an entry, and shuffles at the edges; four columns are one word of a left sheet,
            # and only then do eight threads side by side read without bank conflicts.
            cost = 33 + 4 / height + 4 / width + (0.0 if width == 4 else 1.0)
            score = used / cost * (1.0 if height * width >= 8 else 0.8)
            if best is None or score > best[0]:
                best = score, tile
    return best[1] if best else None
