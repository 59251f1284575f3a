"""The digits, written in every format that has a reader."""

from __future__ import annotations

import gzip
import hashlib
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nas_cntk import data
from nas_cntk.data import cifar10

FACTOR = 15  # pixels 0..16 become bytes 0..240, all of them exact multiples


@pytest.fixture(scope="session")
def digits() -> data.Dataset:
    return data.load("digits")


@pytest.fixture(scope="session")
def digit_bytes(digits: data.Dataset) -> dict[str, np.ndarray]:
    """The official digits as an npz would hold them: uint8 images and integer labels."""
    return {
        "x": np.rint(digits.x_train * 16 * FACTOR).astype(np.uint8),
        "y": digits.y_train,
        "x_test": np.rint(digits.x_test * 16 * FACTOR).astype(np.uint8),
        "y_test": digits.y_test,
    }


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
    opened: Any = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wb") as stream:
        stream.write(header + array.astype(np.uint8).tobytes())


def write_folder(root: Path, x: np.ndarray, y: np.ndarray, suffix: str = ".png") -> None:
    for i, (image, label) in enumerate(zip(x, y, strict=True)):
        folder = root / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(folder / f"{i:05d}{suffix}")


def batch(x: np.ndarray, y: np.ndarray) -> bytes:
    """A CIFAR-10 batch of images (n, 32, 32, 3)."""
    flat = np.ascontiguousarray(x.transpose(0, 3, 1, 2)).reshape(len(x), -1)
    return pickle.dumps({b"data": flat, b"labels": [int(label) for label in y]}, protocol=3)


def write_cifar(folder: Path, batches: dict[str, bytes]) -> dict[str, str]:
    """Write a batch folder and return the MD5 table under which it counts as official."""
    folder.mkdir(parents=True)
    for name, content in batches.items():
        (folder / name).write_bytes(content)
    return {name: hashlib.md5(batches[name]).hexdigest() for name in batches}


@pytest.fixture(scope="session")
def cifar_batches(digit_bytes: dict[str, np.ndarray]) -> dict[str, bytes]:
    """Digits enlarged fourfold to 32 x 32 and in three equal channels; averaging to 8 x 8 undoes it."""
    big = {
        name: np.repeat(digit_bytes[name], 4, axis=1).repeat(4, axis=2).repeat(3, axis=3) for name in ("x", "x_test")
    }
    batches = {
        f"data_batch_{i + 1}": batch(x, y)
        for i, (x, y) in enumerate(zip(np.array_split(big["x"], 5), np.array_split(digit_bytes["y"], 5), strict=True))
    }
    return batches | {"test_batch": batch(big["x_test"], digit_bytes["y_test"])}


FORMATS = ("digits", "npz", "npz_float", "npz_shuffled", "idx", "idx_gz", "folder", "cifar10", "cifar10_tar")


@pytest.fixture(scope="session")
def written(
    tmp_path_factory: pytest.TempPathFactory,
    digits: data.Dataset,
    digit_bytes: dict[str, Any],
    cifar_batches: dict[str, bytes],
) -> tuple[dict[str, str], dict[str, str]]:
    """Specs of the digits in every format, and the MD5 table of the CIFAR-like ones."""
    import tarfile

    root = tmp_path_factory.mktemp("formats")
    np.savez(root / "npz.npz", **digit_bytes)
    np.savez(
        root / "float.npz",
        x=digits.x_train[..., 0],
        y=np.array([f"digit {label}" for label in digits.y_train]),
        x_test=digits.x_test[..., 0],
        y_test=np.array([f"digit {label}" for label in digits.y_test]),
    )
    order = np.random.default_rng(1).permutation(len(digits.x_train))
    np.savez(
        root / "shuffled.npz",
        **(digit_bytes | {"x": digit_bytes["x"][order], "y": digit_bytes["y"][order]}),
    )
    for name, suffix in (("idx", ""), ("idx_gz", ".gz")):
        (root / name).mkdir()
        for part, key in (("train", ""), ("t10k", "_test")):
            write_idx(root / name / f"{part}-images-idx3-ubyte{suffix}", digit_bytes["x" + key][..., 0])
            write_idx(root / name / f"{part}-labels-idx1-ubyte{suffix}", digit_bytes["y" + key])
    write_folder(root / "folder/train", digit_bytes["x"], digit_bytes["y"])
    write_folder(root / "folder/test", digit_bytes["x_test"], digit_bytes["y_test"])
    md5 = write_cifar(root / "cifar/cifar-10-batches-py", cifar_batches)
    with tarfile.open(root / "cifar.tar.gz", "w:gz", compresslevel=1) as archive:
        archive.add(root / "cifar/cifar-10-batches-py", "cifar-10-batches-py")
    specs = {
        "digits": "digits",
        "npz": f"npz:{root}/npz.npz",
        "npz_float": f"npz:{root}/float.npz",
        "npz_shuffled": f"npz:{root}/shuffled.npz",
        "idx": f"idx:{root}/idx",
        "idx_gz": f"idx:{root}/idx_gz",
        "folder": f"folder:{root}/folder",
        "cifar10": f"cifar10:{root}/cifar",
        "cifar10_tar": f"cifar10:{root}/cifar.tar.gz",
    }
    assert tuple(specs) == FORMATS
    return specs, md5


@pytest.fixture(params=FORMATS)
def any_format(
    request: pytest.FixtureRequest,
    written: tuple[dict[str, str], dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[], data.Dataset]]:
    """Loads the digits, 8 x 8, from one of the formats."""
    specs, md5 = written
    monkeypatch.setattr(cifar10, "MD5", md5)
    size = 8 if request.param.startswith("cifar10") else None
    yield lambda: data.load(specs[request.param], image_size=size)


@pytest.fixture
def tools() -> dict[str, Callable[..., Any]]:
    """The writers, for tests that make data of their own."""
    return {"idx": write_idx, "folder": write_folder, "batch": batch, "cifar": write_cifar}
