"""The contract of all readers: one dataset in every format gives one and the same experiment."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from nas_cntk import data
from nas_cntk.data import cifar10

Loader = Callable[[], data.Dataset]


def levels(x: np.ndarray) -> np.ndarray:
    """The digits' own pixel values 0..16 of one channel, whatever the scale they are stored at."""
    x = x[..., :1].astype(np.float64)
    return np.asarray(np.rint((x - x.min()) / (x.max() - x.min()) * 16), dtype=np.uint8)


def rows(x: np.ndarray, y: np.ndarray) -> list[tuple[int, bytes]]:
    return sorted((int(label), image.tobytes()) for image, label in zip(levels(x), y, strict=True))


def test_same_images_and_labels(any_format: Loader, digits: data.Dataset) -> None:
    loaded = any_format()
    assert loaded.image_shape[:2] == (8, 8) and loaded.num_classes == 10
    assert loaded.x_train.dtype == loaded.x_test.dtype == np.float32
    assert loaded.y_train.dtype == loaded.y_test.dtype == np.int64
    assert 0 <= loaded.x_train.min() and loaded.x_train.max() <= 1
    assert rows(loaded.x_train, loaded.y_train) == rows(digits.x_train, digits.y_train)
    assert rows(loaded.x_test, loaded.y_test) == rows(digits.x_test, digits.y_test)


def test_same_pixels_after_standardising(any_format: Loader, digits: data.Dataset) -> None:
    ours, theirs = data.standardise(any_format()), data.standardise(digits)
    for part in ("x_train", "x_test"):
        mine = np.sort(getattr(ours, part)[..., 0].reshape(-1))
        assert mine.dtype == np.float32
        np.testing.assert_allclose(mine, np.sort(getattr(theirs, part).reshape(-1)), atol=2e-6)


def test_subset_holdout_and_test_images_are_disjoint(any_format: Loader) -> None:
    dataset = any_format()
    drawn = data.split(dataset, 640, 640, seed=3)
    test_images = {image.tobytes() for image in dataset.x_test}
    held_out = {image.tobytes() for image in drawn.x_holdout}
    assert drawn.rungs == (80, 160, 320, 640)
    assert not set(drawn.indices) & set(drawn.holdout_indices)
    assert len(set(drawn.indices)) == 640 and len(set(drawn.holdout_indices)) == 640
    for rung in drawn.rungs:
        # The digits hold no image twice, so content tells them apart.
        images = {image.tobytes() for image in drawn.x[:rung]}
        assert len(images) == rung
        assert not images & held_out and not images & test_images
        assert np.ptp(np.bincount(drawn.y[:rung], minlength=10)) <= 1
    assert not held_out & test_images


# The enlarged images of cifar10 have contents, and so an order, of their own.
@pytest.mark.parametrize("any_format", ["npz", "npz_float", "npz_shuffled", "idx", "idx_gz", "folder"], indirect=True)
def test_same_split_in_every_format_and_order(any_format: Loader, digits: data.Dataset) -> None:
    ours = data.split(data.standardise(any_format()), 400, 300, seed=7)
    theirs = data.split(data.standardise(digits), 400, 300, seed=7)
    np.testing.assert_array_equal(ours.y, theirs.y)
    np.testing.assert_array_equal(ours.y_holdout, theirs.y_holdout)
    np.testing.assert_allclose(ours.x, theirs.x, atol=2e-6)
    np.testing.assert_allclose(ours.x_holdout, theirs.x_holdout, atol=2e-6)


def test_fingerprint_is_stable_and_survives_standardising(any_format: Loader) -> None:
    first, second = any_format(), any_format()
    assert first.fingerprint == second.fingerprint == data.standardise(first).fingerprint
    assert len(first.fingerprint) >= 16 and int(first.fingerprint, 16)


def test_fingerprints_of_image_sizes_differ() -> None:
    assert data.load("digits", image_size=4).fingerprint != data.load("digits").fingerprint
    assert data.load("digits", image_size=8).fingerprint == data.load("digits").fingerprint


@pytest.mark.parametrize("change", ["pixel", "test pixel", "label", "test label", "class name", "order"])
def test_fingerprint_sees_every_change(change: str, tmp_path: object, digit_bytes: dict[str, np.ndarray]) -> None:
    def fingerprint(name: str, arrays: dict[str, Any]) -> str:
        np.savez(f"{tmp_path}/{name}.npz", **arrays)
        return data.load(f"npz:{tmp_path}/{name}.npz").fingerprint

    changed = {name: array.copy() for name, array in digit_bytes.items()}
    if change == "pixel":
        changed["x"][5, 3, 3] ^= 1
    elif change == "test pixel":
        changed["x_test"][-1, 0, 0] ^= 1
    elif change == "label":
        changed["y"][0] = (changed["y"][0] + 1) % 10
    elif change == "test label":
        changed["y_test"][0] = (changed["y_test"][0] + 1) % 10
    elif change == "class name":
        changed["y"][changed["y"] == 9] = 11
        changed["y_test"][changed["y_test"] == 9] = 11
    else:
        changed["x"], changed["y"] = changed["x"][::-1], changed["y"][::-1]
    assert fingerprint("changed", changed) != fingerprint("same", digit_bytes)


def test_digits_are_the_official_split_for_ever(digits: data.Dataset) -> None:
    images, target = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(images, target, test_size=397, stratify=target, random_state=0)
    np.testing.assert_array_equal(digits.x_train.reshape(1400, 64) * 16, x_train)
    np.testing.assert_array_equal(digits.x_test.reshape(397, 64) * 16, x_test)
    np.testing.assert_array_equal(digits.y_train, y_train)
    np.testing.assert_array_equal(digits.y_test, y_test)
    assert digits.classes == tuple("0123456789") and digits.name == digits.spec == "digits"
    # A study refuses to go on when this changes: it may not change by accident.
    assert digits.fingerprint == "34b7908018a7f0c241ccffd500046d37"


def test_without_a_test_set_one_fifth_is_set_aside_by_the_rule(
    tmp_path: object, digit_bytes: dict[str, np.ndarray]
) -> None:
    x, y = digit_bytes["x"], digit_bytes["y"]
    np.savez(f"{tmp_path}/a.npz", x=x, y=y)
    loaded = data.load(f"npz:{tmp_path}/a.npz")
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.2, stratify=y, random_state=0)
    np.testing.assert_array_equal(loaded.x_train, x_train.astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(loaded.y_test, y_test)
    assert len(loaded.x_test) == 280
    assert any("one fifth" in note for note in loaded.notes)


def test_strings_and_integers_are_numbered_in_sorted_order(tmp_path: object) -> None:
    x = np.zeros((40, 2, 2), dtype=np.uint8)
    x[:, 0, 0] = np.arange(40)
    for labels, classes in (
        (np.array(["zebra", "ant"] * 20), ("ant", "zebra")),
        (np.array([b"zebra", b"ant"] * 20), ("ant", "zebra")),
        (np.array([10, -3] * 20), ("-3", "10")),
    ):
        np.savez(f"{tmp_path}/a.npz", x=x, y=labels, x_test=x, y_test=labels)
        loaded = data.load(f"npz:{tmp_path}/a.npz")
        assert loaded.classes == classes
        np.testing.assert_array_equal(loaded.y_train, [1, 0] * 20)


def test_float_pixels_stay_as_they_are(tmp_path: object) -> None:
    x = np.random.default_rng(0).normal(50, 9, (20, 3, 2, 5))
    np.savez_compressed(f"{tmp_path}/a.npz", x=x, y=np.arange(20) % 2, x_test=x, y_test=np.arange(20) % 2)
    np.testing.assert_array_equal(data.load(f"npz:{tmp_path}/a.npz").x_train, x.astype(np.float32))


def test_loading_digits_imports_no_torch() -> None:
    code = (
        "import sys, nas_cntk.data as d; early = set(sys.modules); d.load('digits');"
        "assert 'torch' not in sys.modules and 'optuna' not in sys.modules;"
        "assert not {'sklearn', 'scipy', 'PIL', 'torch'} & early, early"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_table_of_readers_is_what_the_screen_says() -> None:
    assert tuple(data.READERS) == ("digits", "cifar10", "npz", "idx", "folder")
    assert all(name in data.FORMS for name in data.READERS)
    assert cifar10.CLASSES == tuple(sorted(cifar10.CLASSES))
