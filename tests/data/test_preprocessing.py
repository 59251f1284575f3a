"""Area averaging, standardising and content keys."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_cntk import data
from nas_cntk.data import preprocessing
from nas_cntk.errors import DataError


def test_whole_ratios_are_plain_means() -> None:
    x = np.random.default_rng(0).random((5, 12, 8, 3))
    expected = x.reshape(5, 4, 3, 4, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(preprocessing.area_average(x, (4, 4)), expected, rtol=1e-13)


@pytest.mark.parametrize(("size", "new"), [(8, 3), (7, 5), (32, 9), (5, 5), (6, 1), (3, 8), (5, 7)])
def test_any_ratio_equals_averaging_a_fine_copy(size: int, new: int) -> None:
    x = np.random.default_rng(1).random((2, size, size, 2))
    fine = x.repeat(new, axis=1).repeat(new, axis=2)  # each output pixel is a block of size x size of it
    expected = fine.reshape(2, new, size, new, size, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(preprocessing.area_average(x, (new, new)), expected, rtol=1e-12)


@given(size=st.integers(1, 60), new=st.integers(1, 60))
def test_weights_of_an_output_pixel_sum_to_one_and_no_input_is_lost(size: int, new: int) -> None:
    weights = np.zeros((new, size))
    for pixel in range(new):
        first, some = preprocessing.overlap_weights(size, new, pixel)
        weights[pixel, first : first + len(some)] = some
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-14)
    np.testing.assert_allclose(weights.sum(axis=0), new / size, rtol=1e-13)


def test_image_size_averages_before_standardising(tmp_path: object) -> None:
    x = np.random.default_rng(2).integers(0, 256, (40, 6, 9, 3)).astype(np.uint8)
    y = np.arange(40) % 2
    np.savez(f"{tmp_path}/a.npz", x=x, y=y, x_test=x, y_test=y)
    loaded = data.load(f"npz:{tmp_path}/a.npz", image_size=3)
    expected = (x / 255).reshape(40, 3, 2, 3, 3, 3).mean(axis=(2, 4))
    assert loaded.image_shape == (3, 3, 3)
    np.testing.assert_allclose(loaded.x_train, expected, atol=1e-7)
    ready = data.standardise(loaded)
    expected = (expected - expected.mean((0, 1, 2))) / expected.std((0, 1, 2))
    np.testing.assert_allclose(ready.x_train, expected, atol=1e-5)


def test_standardise_uses_the_training_set_alone(digits: data.Dataset) -> None:
    ready = data.standardise(digits)
    mean, deviation = digits.x_train.mean(dtype=np.float64), digits.x_train.std(dtype=np.float64)
    assert ready.x_train.dtype == np.float32
    np.testing.assert_allclose(ready.x_train, (digits.x_train - mean) / deviation, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(ready.x_test, (digits.x_test - mean) / deviation, rtol=1e-6, atol=1e-7)
    assert abs(ready.x_test.mean()) > 1e-4


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 240.7])
def test_constant_channel_is_shifted_to_zero(digits: data.Dataset, value: float) -> None:
    constant = np.full_like(digits.x_train, value)
    two = replace(
        digits,
        x_train=np.concatenate([digits.x_train, constant], axis=3),
        x_test=np.concatenate([digits.x_test, np.full_like(digits.x_test, value)], axis=3),
    )
    ready = data.standardise(two)
    assert np.abs(ready.x_train[..., 1]).max() < 1e-9
    np.testing.assert_array_equal(ready.x_train[..., :1], data.standardise(digits).x_train)


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch, digits: data.Dataset) -> None:
    whole, keys = data.standardise(digits), preprocessing.content_keys(digits.x_train)
    monkeypatch.setattr(preprocessing, "CHUNK_VALUES", 1000)
    np.testing.assert_allclose(data.standardise(digits).x_train, whole.x_train, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(preprocessing.content_keys(digits.x_train), keys)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64, ">u2", ">f8"])
def test_keys_depend_on_ranks_alone(dtype: str) -> None:
    x = np.random.default_rng(0).integers(0, 17, (50, 4, 4, 1))
    x[0, :2, :, 0] = np.arange(8).reshape(2, 4)
    expected = preprocessing.content_keys(x.astype(np.uint8))
    assert len(np.unique(expected)) == 50
    np.testing.assert_array_equal(preprocessing.content_keys((x * 15).astype(dtype)), expected)
    np.testing.assert_array_equal(preprocessing.content_keys(np.round(x * 255 / 16).astype(dtype)), expected)
    if np.dtype(dtype).kind == "f":
        np.testing.assert_array_equal(preprocessing.content_keys((x / 16 - 3).astype(dtype)), expected)
    swapped = x.copy()
    swapped[[0, 1]] = x[[1, 0]]
    np.testing.assert_array_equal(preprocessing.content_keys(swapped.astype(dtype))[[1, 0]], expected[:2])


def test_large_float_data_are_keyed_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocessing, "MAX_RANKED_VALUES", 10)
    x = np.random.default_rng(0).random((6, 2, 2, 1))
    keys = preprocessing.content_keys(x)
    assert len(np.unique(keys)) == 6
    np.testing.assert_array_equal(preprocessing.content_keys(x[::-1]), keys[::-1])


def test_test_images_beyond_float32_once_standardised_are_refused(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).random((20, 4, 4)) * 1e-30, np.arange(20) % 2
    np.savez(tmp_path / "a.npz", x=x, y=y, x_test=x + 1e20, y_test=y)
    with pytest.raises(DataError, match="too far from those of the training images"):
        data.standardise(data.load(f"npz:{tmp_path}/a.npz"))
