"""model.json: written and read back, and everything that can be wrong with it in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_cntk.data import load, standardise
from nas_cntk.errors import ModelError
from nas_cntk.export.manifest import Manifest, Network, Regression, read_manifest
from nas_cntk.validate.artifacts import preprocessing

CNN = Manifest(("a", "b"), (6, 5, 1), "shrink", (0.5,), (0.25,), Network(8, False, "standard"), {"trial": 3})
KERNEL = replace(CNN, model=Regression("nngp", "float64", 40, 1e-3, 0.0, 2.5))


@pytest.mark.parametrize("manifest", [CNN, KERNEL, replace(CNN, model=Network(64, True, None))])
def test_back_and_forth(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(manifest.to_json())
    assert read_manifest(tmp_path) == manifest


def test_standardised_as_the_data_are_bit_by_bit() -> None:
    raw = load("digits")
    how = preprocessing(raw)
    manifest = replace(CNN, image_shape=raw.image_shape, mean=how.mean, deviation=how.deviation)
    assert np.array_equal(manifest.standardised(raw.x_test), standardise(raw).x_test)


def cut(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda document: document.pop(name)


def put(value: Any, *path: str) -> Callable[[dict[str, Any]], object]:
    def change(document: dict[str, Any]) -> None:
        for name in path[:-1]:
            document = document[name]
        document[path[-1]] = value

    return change


@pytest.mark.parametrize(
    "change, message",
    [
        (cut("format"), "is no model.json"),
        (put(2, "version"), "has version '2', this program reads 1"),
        (put("svm", "kind"), "\"kind\" is 'svm'"),
        (cut("classes"), '"classes" is missing'),
        (put(["a"], "classes"), "two or more different names"),
        (put(["a", "a"], "classes"), "two or more different names"),
        (put([1, 2], "classes"), '"classes" is of the wrong type'),
        (put([6, 5], "image_shape"), "height, width and channels"),
        (put([6, 0, 1], "image_shape"), "height, width and channels"),
        (put([True, 5, 1], "image_shape"), '"image_shape" is of the wrong type'),
        (put([0.5, 0.5], "mean"), "must be 1 numbers each"),
        (put([0], "deviation"), "the deviations positive"),
        (put([1e999], "mean"), "not finite"),
        (put("maybe", "resize"), '"resize" must be'),
        (cut("kernel"), '"kernel" is missing'),
        (put("rbf", "kernel", "kernel"), 'must be "ntk" or "nngp"'),
        (put("float16", "kernel", "dtype"), 'must be "float32" or "float64"'),
        (put("3", "kernel", "train_images"), '"train_images" is of the wrong type'),
        (put(10**400, "kernel", "ridge"), '"ridge" is not finite'),
        (put([6, 10**4000, 1], "image_shape"), '"image_shape" is out of range'),
        (put(10**30, "kernel", "train_images"), '"train_images" is out of range'),
    ],
)
def test_a_damaged_one(change: Callable[[dict[str, Any]], object], message: str, tmp_path: Path) -> None:
    document = json.loads(KERNEL.to_json())
    change(document)
    (tmp_path / "model.json").write_text(json.dumps(document))
    with pytest.raises(ModelError) as error:
        read_manifest(tmp_path)
    assert message in str(error.value) and "export the model again" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    for place, message in (
        (tmp_path / "no", "does not exist"),
        (tmp_path, "has no model.json"),
        (Path("a\0"), "does not exist|cannot be read"),
    ):
        with pytest.raises(ModelError, match=message):
            read_manifest(place)
    (tmp_path / "model.json").mkdir()
    with pytest.raises(ModelError, match="cannot be read"):
        read_manifest(tmp_path)
    (tmp_path / "model.json").rmdir()
    for content in (b"", b"\xff\xfe", b"[" * 100_000, b"[]"):
        (tmp_path / "model.json").write_bytes(content)
        with pytest.raises(ModelError, match="is no"):
            read_manifest(tmp_path)
    with pytest.raises(ModelError, match="is a file"):
        read_manifest(tmp_path / "model.json")
