"""The split: disjoint, nested, class-balanced, seeded, independent of storage order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_cntk import data
from nas_cntk.data.splits import set_aside
from nas_cntk.errors import DataError


def dataset(sizes: list[int], seed: int = 0) -> data.Dataset:
    """A dataset of 2 x 2 images, all different, with this many training images of each class."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(len(sizes)), sizes)).astype(np.int64)
    x = rng.permutation(len(y) * 4).reshape(-1, 2, 2, 1).astype(np.float32)
    classes = tuple(f"class {i}" for i in range(len(sizes)))
    return data.Dataset("made", "made", x, y, x[:0], y[:0], classes, "0" * 32)


def counts(y: np.ndarray, k: int) -> list[int]:
    return [int(count) for count in np.bincount(y, minlength=k)]


def test_rungs_are_nested_prefixes_balanced_to_one_image() -> None:
    drawn = data.split(dataset([300] * 10), 1004, 500, seed=0)
    assert drawn.rungs == (125, 251, 502, 1004)
    for rung in range(1, 1005):
        assert np.ptp(np.bincount(drawn.y[:rung], minlength=10)) <= 1
    assert counts(drawn.y_holdout, 10) == [50] * 10
    assert drawn.notes == ()


def test_the_arrays_are_what_the_indices_point_at() -> None:
    full = dataset([40, 50, 60])
    drawn = data.split(full, 60, 45, seed=5)
    np.testing.assert_array_equal(drawn.x, full.x_train[drawn.indices])
    np.testing.assert_array_equal(drawn.y, full.y_train[drawn.indices])
    np.testing.assert_array_equal(drawn.x_holdout, full.x_train[drawn.holdout_indices])
    np.testing.assert_array_equal(drawn.y_holdout, full.y_train[drawn.holdout_indices])
    assert drawn.x.dtype == np.float32 and drawn.y.dtype == np.int64


def test_seed_decides() -> None:
    full = dataset([100] * 4)
    first, again, other = (data.split(full, 80, 80, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.indices, again.indices)
    np.testing.assert_array_equal(first.holdout_indices, again.holdout_indices)
    assert set(first.indices) != set(other.indices)


def test_storage_order_does_not_matter() -> None:
    full = dataset([30, 50, 40])
    order = np.random.default_rng(9).permutation(120)
    shuffled = data.Dataset(
        "made", "made", full.x_train[order], full.y_train[order], full.x_test, full.y_test, full.classes, "1"
    )
    ours, theirs = data.split(full, 50, 40, seed=3), data.split(shuffled, 50, 40, seed=3)
    np.testing.assert_array_equal(ours.x, theirs.x)
    np.testing.assert_array_equal(ours.x_holdout, theirs.x_holdout)
    assert not np.array_equal(ours.indices, theirs.indices)


def test_a_growing_subset_keeps_its_images_and_the_held_out_ones() -> None:
    full = dataset([200] * 5)
    small, large = data.split(full, 100, 200, seed=0), data.split(full, 400, 200, seed=0)
    np.testing.assert_array_equal(small.indices, large.indices[:100])
    np.testing.assert_array_equal(small.holdout_indices, large.holdout_indices)


def test_both_shrink_in_proportion_and_say_so() -> None:
    drawn = data.split(dataset([140] * 10), 2000, 2000, seed=0)
    assert (len(drawn.x), len(drawn.x_holdout)) == (700, 700)
    assert any("1,400" in note and "700" in note for note in drawn.notes)
    drawn = data.split(dataset([100] * 3), 2000, 1000, seed=0)
    assert (len(drawn.x), len(drawn.x_holdout)) == (200, 100)


def test_shrinking_stops_at_two_images_a_class() -> None:
    drawn = data.split(dataset([4] * 10), 2000, 2000, seed=0)
    assert counts(drawn.y, 10) == counts(drawn.y_holdout, 10) == [2] * 10
    drawn = data.split(dataset([6] * 10), 100_000, 20, seed=0)  # in proportion, nothing would be held out
    assert counts(drawn.y, 10) == [4] * 10 and counts(drawn.y_holdout, 10) == [2] * 10


def test_unequal_classes_are_balanced_as_far_as_the_smallest_allows() -> None:
    drawn = data.split(dataset([10, 500, 1000]), 200, 200, seed=0)
    subset, held_out = counts(drawn.y, 3), counts(drawn.y_holdout, 3)
    assert subset[0] == held_out[0] == 5
    assert 1.7 < (subset[2] - 5) / (subset[1] - 5) < 2.3  # the rest is stratified: 990 to 490
    assert any("smallest class has 10" in note for note in drawn.notes)
    assert counts(drawn.y[:15], 3) == [5, 5, 5]


def test_rungs_that_cannot_hold_every_class_are_left_out() -> None:
    assert data.split(dataset([20] * 10), 40, 40, seed=0).rungs == (10, 20, 40)
    assert data.split(dataset([20] * 10), 20, 20, seed=0).rungs == (10, 20)
    assert data.split(dataset([4] * 3), 6, 6, seed=0).rungs == (3, 6)


@pytest.mark.parametrize(
    ("sizes", "subset", "holdout", "seed", "words"),
    [
        pytest.param([3, 100], 50, 50, 0, "'class 0' has 3 training images", id="rare class"),
        pytest.param([0, 100], 50, 50, 0, "'class 0' has 0 training images", id="class only in name"),
        pytest.param([50] * 10, 19, 50, 0, "--subset 19", id="subset below two a class"),
        pytest.param([50] * 10, 50, 0, 0, "--holdout 0", id="no held-out"),
        pytest.param([50] * 10, -5, 50, 0, "--subset -5", id="negative subset"),
        pytest.param([50] * 2, 20, 20, -1, "seed -1", id="negative seed"),
    ],
)
def test_errors(sizes: list[int], subset: int, holdout: int, seed: int, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        data.split(dataset(sizes), subset, holdout, seed)
    assert "\n" not in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.lists(st.integers(4, 60), min_size=2, max_size=6),
    subset=st.integers(0, 150),
    holdout=st.integers(0, 150),
    seed=st.integers(0, 3),
)
def test_any_split_keeps_its_promises(sizes: list[int], subset: int, holdout: int, seed: int) -> None:
    k, n = len(sizes), sum(sizes)
    subset, holdout = subset + 2 * k, holdout + 2 * k
    drawn = data.split(dataset(sizes), subset, holdout, seed)
    if subset + holdout <= n:
        assert (len(drawn.x), len(drawn.x_holdout)) == (subset, holdout)
    else:
        assert n - 1 <= len(drawn.x) + len(drawn.x_holdout) <= n
        assert any("shrinks" in note for note in drawn.notes)
    assert not set(drawn.indices) & set(drawn.holdout_indices)
    assert len(set(drawn.indices)) == len(drawn.x) and len(set(drawn.holdout_indices)) == len(drawn.x_holdout)
    for y, size in ((drawn.y, len(drawn.x)), (drawn.y_holdout, len(drawn.x_holdout))):
        share = np.bincount(y, minlength=k)
        assert share.min() >= 2
        if min(sizes) >= 2 * (max(subset, holdout) // k + 1):
            assert np.ptp(share) <= 1
        assert np.ptp(np.bincount(y[: k * int(share.min())], minlength=k)) == 0
        assert size == share.sum()
    assert drawn.rungs[-1] == len(drawn.x) and list(drawn.rungs) == sorted(set(drawn.rungs))
    assert drawn.rungs[0] >= k


@pytest.mark.parametrize("sizes", [[1, 20], [2, 3], [1, 1], [1, 1, 1, 1, 1, 9], [5, 5], [2] * 30])
def test_setting_aside_never_empties_a_class(sizes: list[int]) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    train, test, notes = set_aside(labels)
    assert sorted([*train, *test]) == list(range(len(labels)))
    assert set(labels[train]) == set(labels)
    assert len(notes) == 1 and f"{len(test)} of {len(labels)}" in notes[0]
