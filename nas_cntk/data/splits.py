"""Split: the subset that a kernel is fitted on, the held-out images it is scored on, and the rungs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas_cntk.data.dataset import Dataset
from nas_cntk.data.preprocessing import content_keys
from nas_cntk.errors import DataError

LEAST = 2  # images of each class, in the subset and among the held-out images
RUNG_DIVISORS = (8, 4, 2, 1)
TEST_FRACTION = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Disjoint subset and held-out images of one training set.

    Both are ordered round-robin over the classes, so that the first r images of ``x`` are a rung: nested
    in the next, and class-balanced to within one image for as long as every class lasts. ``indices`` point
    into the training set. ``notes`` are sentences that the screen must show.
    """

    x: NDArray[np.float32]  # shape: (subset, h, w, c)
    y: NDArray[np.int64]  # shape: (subset,)
    x_holdout: NDArray[np.float32]  # shape: (holdout, h, w, c)
    y_holdout: NDArray[np.int64]  # shape: (holdout,)
    indices: NDArray[np.int64]  # shape: (subset,)
    holdout_indices: NDArray[np.int64]  # shape: (holdout,)
    rungs: tuple[int, ...]
    notes: tuple[str, ...]


def split(dataset: Dataset, subset: int, holdout: int, seed: int) -> Split:
    """Draw ``subset`` and ``holdout`` images from the training set; the test set is never touched.

    Equal images in any storage order and any reader give the equal split: each class is put in the order
    of its content keys before the seeded shuffle. Held-out images come from the other end of the shuffle,
    so that they stay the same while only the subset grows.

    Raises: DataError where a class has too few images for two in each part, or fewer are asked for.
    """
    if seed < 0:
        raise DataError(f"seed {seed} is negative: use 0 or more")
    sizes = np.bincount(dataset.y_train, minlength=dataset.num_classes)
    subset, holdout, shrunk = _shrink(dataset, sizes, subset, holdout)
    subset_quota, holdout_quota, unequal = _quotas(sizes, subset, holdout)

    keys = content_keys(dataset.x_train) if dataset.keys is None else dataset.keys
    chosen: list[NDArray[np.int64]] = []
    held_out: list[NDArray[np.int64]] = []
    for label in range(dataset.num_classes):
        members = np.flatnonzero(dataset.y_train == label)
        members = members[np.argsort(keys[members], kind="stable")]
        shuffled = np.random.default_rng([seed, label]).permutation(members)
        chosen.append(shuffled[: subset_quota[label]])
        held_out.append(shuffled[len(shuffled) - holdout_quota[label] :])
    indices, holdout_indices = _round_robin(chosen), _round_robin(held_out)

    rungs = _rungs(subset, dataset.num_classes)
    return Split(
        x=dataset.x_train[indices],
        y=dataset.y_train[indices],
        x_holdout=dataset.x_train[holdout_indices],
        y_holdout=dataset.y_train[holdout_indices],
        indices=indices,
        holdout_indices=holdout_indices,
        rungs=rungs,
        notes=(*dataset.notes, *shrunk, *unequal),
    )


def set_aside(labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
    """Indices of the training and of the test images of a set that brings no test set, and notes.

    One fifth, drawn once and for all (``random_state=0``), stratified where every class has two images
    and the fifth has room for every class. Otherwise no class may vanish from the training images.
    """
    from sklearn.model_selection import train_test_split

    n = len(labels)
    counts = np.bincount(labels)
    tests = int(np.ceil(TEST_FRACTION * n))
    stratify = counts.min() >= 2 and min(tests, n - tests) >= len(counts)
    train, test = train_test_split(
        np.arange(n), test_size=TEST_FRACTION, stratify=labels if stratify else None, random_state=0
    )
    notes = [f"no test set given: {len(test):,} of {n:,} images (one fifth) are set aside as the test set"]
    if not stratify:
        lost = ~np.isin(labels[test], labels[train])
        train, test = np.concatenate([train, test[lost]]), test[~lost]
        notes = [
            f"no test set given: {len(test):,} of {n:,} images are set aside as the test set, "
            "not stratified because some class is too small"
        ]
    return train, test, tuple(notes)


def _shrink(dataset: Dataset, sizes: NDArray[np.int64], subset: int, holdout: int) -> tuple[int, int, tuple[str, ...]]:
    """The sizes that the training set allows: both shrink in proportion, down to two images a class."""
    least = LEAST * dataset.num_classes
    for option, asked in (("subset", subset), ("holdout", holdout)):
        if asked < least:
            raise DataError(
                f"--{option} {asked} is too small: {dataset.num_classes} classes need at least {least} "
                f"images, {LEAST} of each class"
            )
    rarest = int(sizes.argmin())
    if sizes[rarest] < 2 * LEAST:
        raise DataError(
            f"class {dataset.classes[rarest]!r} has {sizes[rarest]} training images, too few for a split: "
            f"{2 * LEAST} are needed ({LEAST} in the subset, {LEAST} held out); add images or leave it out"
        )
    n = int(sizes.sum())
    if subset + holdout <= n:
        return subset, holdout, ()
    part = min(max(n * subset // (subset + holdout), least), n - least)
    rest = min(max(n * holdout // (subset + holdout), least), n - part)
    note = f"the training set has {n:,} images: subset {subset:,} shrinks to {part:,}, held-out {holdout:,} to {rest:,}"
    return part, rest, (note,)


def _quotas(
    sizes: NDArray[np.int64], subset: int, holdout: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
    """Images of each class (k,) in the subset and among the held-out.

    Equal for all classes as far as the smallest one allows, the rest in proportion to what is left.
    """
    k, smallest = len(sizes), int(sizes.min())
    even = max(smallest * subset // (subset + holdout), smallest - holdout // k)
    base = min(subset // k, max(LEAST, min(even, smallest - LEAST)))
    holdout_base = min(holdout // k, smallest - base)

    room = sizes - base - holdout_base
    extra = _allocate(subset, base, room)
    holdout_extra = _allocate(holdout, holdout_base, room - extra)
    quota, holdout_quota = base + extra, holdout_base + holdout_extra

    notes: list[str] = []
    if max(np.ptp(quota), np.ptp(holdout_quota)) > 1:
        notes.append(
            f"the smallest class has {smallest:,} training images: {base:,} (subset) and {holdout_base:,} "
            "(held-out) of every class, the rest stratified"
        )
    return quota, holdout_quota, tuple(notes)


def _allocate(total: int, base: int, room: NDArray[np.int64]) -> NDArray[np.int64]:
    """What is left of ``total`` after ``base`` of each class, spread over classes with this much room."""
    left = total - base * len(room)
    if left < len(room) and np.count_nonzero(room) >= left:
        # Fewer than one a class: one each to the roomiest keeps the quotas within one image.
        extra = np.zeros_like(room)
        extra[np.argsort(-room, kind="stable")[:left]] = 1
        return extra
    share = left * room
    extra, fraction = np.divmod(share, room.sum())
    extra[np.argsort(-fraction, kind="stable")[: left - extra.sum()]] += 1
    return extra


def _round_robin(members: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """All members (lists of indices, one a class), first those that are first in their class."""
    turn = np.concatenate([np.arange(len(indices)) for indices in members])
    ordered: NDArray[np.int64] = np.concatenate(members)[np.argsort(turn, kind="stable")]
    return ordered


def _rungs(subset: int, num_classes: int) -> tuple[int, ...]:
    """S/8, S/4, S/2 and S; a rung that cannot hold every class says nothing and is left out."""
    return tuple(subset // d for d in RUNG_DIVISORS if d == 1 or subset // d >= num_classes)
