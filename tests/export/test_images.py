"""Images to predict: labels are no duty, names are kept, and what the model cannot read is one line."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas_cntk.data import load
from nas_cntk.errors import DataError
from nas_cntk.export.images import read_images

GRAY = (4, 4, 1)
RNG = np.random.default_rng(0)


def png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.squeeze()).save(path)


def idx(path: Path, array: np.ndarray) -> None:
    head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(head + array.tobytes()))


def test_digits_are_their_test_images() -> None:
    found, data = read_images("digits", (8, 8, 1), resize="never"), load("digits")
    assert np.array_equal(found.x, data.x_test) and found.what == "test images"
    assert found.labels is not None and [int(label) for label in found.labels] == data.y_test.tolist()
    assert found.names[:3] == ("0", "1", "2")


def test_npz_with_and_without_labels(tmp_path: Path) -> None:
    x = RNG.integers(0, 256, (5, 4, 4), dtype=np.uint8)
    y = np.array(["a", "b", "a", "b", "a"])
    for name, arrays, due, labels in (
        ("bare", {"x": x}, x, None),
        ("labelled", {"x": x, "y": y}, x, ("a", "b", "a", "b", "a")),
        ("tested", {"x": x, "y": y, "x_test": x[:2], "y_test": y[:2]}, x[:2], ("a", "b")),
    ):
        np.savez(tmp_path / f"{name}.npz", **arrays)
        found = read_images(f"npz:{tmp_path / name}.npz", GRAY, resize="never")
        assert np.array_equal(found.x, due[..., None].astype(np.float32) / 255) and found.labels == labels


def test_idx_without_labels(tmp_path: Path) -> None:
    x = RNG.integers(0, 256, (5, 4, 4), dtype=np.uint8)
    idx(tmp_path / "train-images-idx3-ubyte.gz", x)
    found = read_images(f"idx:{tmp_path}", GRAY, resize="never")
    assert np.array_equal(found.x[..., 0], x.astype(np.float32) / 255) and found.labels is None
    idx(tmp_path / "t10k-images-idx3-ubyte.gz", x[:2])
    idx(tmp_path / "t10k-labels-idx1-ubyte.gz", np.array([7, 3], dtype=np.uint8))
    found = read_images(f"idx:{tmp_path}", GRAY, resize="never")
    assert len(found.x) == 2 and found.labels == ("7", "3") and found.what == "test images"


def test_a_folder_that_simply_holds_images(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (3, 4, 4, 1), dtype=np.uint8)
    for name, image in zip(("c.png", "a.png", "b.PNG"), pixels, strict=True):
        png(tmp_path / name, image)
    (tmp_path / "notes.txt").write_text("no image")
    png(tmp_path / "more" / "d.png", pixels[0])
    found = read_images(f"folder:{tmp_path}", GRAY, resize="never")
    assert found.names == ("a.png", "b.PNG", "c.png") and found.labels is None
    assert np.array_equal(found.x, pixels[[1, 2, 0]].astype(np.float32) / 255)
    assert found.notes == ("not read: the folders 'more' beside the images",)


def test_one_image_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = RNG.integers(0, 256, (8, 8, 1), dtype=np.uint8)
    png(tmp_path / "folder" / "a.PNG", pixels)
    png(tmp_path / "b:c.png", pixels)
    monkeypatch.setenv("HOME", str(tmp_path))
    found = read_images(str(tmp_path / "folder" / "a.PNG"), GRAY, resize="any")
    assert found.names == ("a.PNG",) and found.labels is None and found.what == "images"
    assert np.array_equal(found.x, read_images(f"folder:{tmp_path / 'folder'}", GRAY, resize="any").x)
    assert np.array_equal(found.x, read_images("~/folder/a.PNG", GRAY, resize="any").x)
    assert np.array_equal(found.x, read_images(str(tmp_path / "b:c.png"), GRAY, resize="any").x)


def test_class_folders_bring_labels_and_a_test_set_is_taken(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (4, 4, 4, 1), dtype=np.uint8)
    for number, (part, label) in enumerate([("train", "b"), ("train", "a"), ("test", "b"), ("test", "a")]):
        png(tmp_path / "both" / part / label / f"{number}.png", pixels[number])
        if part == "train":
            png(tmp_path / "one" / label / f"{number}.png", pixels[number])
    found = read_images(f"folder:{tmp_path / 'one'}", GRAY, resize="never")
    assert found.names == ("a/1.png", "b/0.png") and found.labels == ("a", "b") and found.what == "images"
    found = read_images(f"folder:{tmp_path / 'both'}", GRAY, resize="never")
    assert found.names == ("test/a/3.png", "test/b/2.png") and found.what == "test images"
    assert np.array_equal(found.x, pixels[[3, 2]].astype(np.float32) / 255)


def test_sizes(tmp_path: Path) -> None:
    x = RNG.integers(0, 256, (6, 8, 8, 1), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(6) % 2)
    png(tmp_path / "f" / "0.png", x[0])
    spec, folder = f"npz:{tmp_path / 'x.npz'}", f"folder:{tmp_path / 'f'}"
    for where in (spec, folder):
        with pytest.raises(DataError, match="8 x 8 pixels, the model reads 4 x 4: bring them to that size"):
            read_images(where, GRAY, resize="never")
        with pytest.raises(DataError, match="8 x 8 pixels, fewer than the 16 x 16 the model reads"):
            read_images(where, (16, 16, 1), resize="shrink")
        averaged = read_images(where, GRAY, resize="shrink").x
        due = x[: len(averaged)].reshape(-1, 4, 2, 4, 2, 1).mean(axis=(2, 4)) / 255
        np.testing.assert_allclose(averaged, due, rtol=1e-6)
        assert read_images(where, (16, 16, 1), resize="any").x.shape[1:] == (16, 16, 1)
    # As a search reads the same file with --image-size, bit by bit.
    searched = load(spec, image_size=4)
    both = np.concatenate([searched.x_train, searched.x_test])
    assert {image.tobytes() for image in both} == {i.tobytes() for i in read_images(spec, GRAY, resize="shrink").x}


def test_channels(tmp_path: Path) -> None:
    gray = RNG.integers(0, 256, (2, 4, 4, 1), dtype=np.uint8)
    colour = RNG.integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    png(tmp_path / "f" / "gray.png", gray[0])
    png(tmp_path / "f" / "rgb.png", colour[0])
    found = read_images(f"folder:{tmp_path / 'f'}", (4, 4, 3), resize="never")
    assert np.array_equal(found.x[0], np.repeat(gray[0], 3, axis=-1).astype(np.float32) / 255)
    with pytest.raises(DataError, match="1 of 2 images cannot be used.*rgb.png: it has 3 channels, the model reads 1"):
        read_images(f"folder:{tmp_path / 'f'}", GRAY, resize="never")
    found = read_images(f"folder:{tmp_path / 'f'}", GRAY, resize="never", skip_bad=True)
    assert found.names == ("gray.png",) and "1 of 2 images cannot be used and are left out" in found.notes[0]
    np.savez(tmp_path / "x.npz", x=colour)
    with pytest.raises(DataError, match="the images have 3 channels, the model reads 1"):
        read_images(f"npz:{tmp_path / 'x.npz'}", GRAY, resize="never")


@pytest.mark.parametrize(
    "spec, message",
    [
        ("npz:none.npz", "does not exist"),
        ("npz:", "names no path"),
        ("zip:x", "unknown data"),
        ("digits:x", "take no path"),
        ("cifar10", "names no path"),
        ("cifar10:none", "does not exist"),
        ("npz:text.npz", "is no npz file"),
        ("npz:nan.npz", "image 1 holds NaN"),
        ("npz:empty.npz", "nothing to predict"),
        ("npz:words.npz", "no pixel values"),
        ("npz:few.npz", "3 images but 2 labels"),
        ("npz:y.npz", "no array 'x'"),
        ("folder:.", "holds no images"),
        ("folder:none", "does not exist"),
        ("folder:broken", r"1 of 1 images cannot be used \('x.png: no image'\): give images that the model can read"),
        ("idx:broken", "has no t10k-images"),
        ("none.png", "'none.png' does not exist: give the path of an image file"),
        ("broken/x.png", "'broken/x.png' cannot be used: no image"),
        ("large.jpg", "'large.jpg' cannot be used: it has 5 x 4 pixels, the model reads 4 x 4: bring them to that"),
        ("broken", "for this folder, did you mean 'folder:broken'"),
        ("none", "unknown data 'none': there is no file or folder of this name; use digits"),
    ],
)
def test_what_cannot_be_read(spec: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    x = np.zeros((3, 4, 4))
    (tmp_path / "text.npz").write_text("no")
    np.savez("nan.npz", x=np.stack([x[0], x[0] * np.nan]))
    np.savez("empty.npz", x=x[:0])
    np.savez("words.npz", x=np.full((2, 4, 4), "a"))
    np.savez("few.npz", x=x, y=np.array([0, 1]))
    np.savez("y.npz", y=np.array([0, 1]))
    if spec == "folder:.":
        for path in tmp_path.iterdir():
            path.unlink()
        (tmp_path / "a.txt").write_text("")
    else:
        (tmp_path / "broken").mkdir()
        (tmp_path / "broken" / "x.png").write_text("no")
        Image.new("L", (4, 5)).save("large.jpg")
    with pytest.raises(DataError, match=message) as error:
        read_images(spec, GRAY, resize="never")
    assert "\n" not in str(error.value)
