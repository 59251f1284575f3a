"""Every kind of bad input: one line that says what is wrong, of the right type."""

from __future__ import annotations

import gzip
import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nas_cntk import data
from nas_cntk.data import sources
from nas_cntk.errors import DataError

X = np.random.default_rng(0).integers(0, 256, (20, 4, 4)).astype(np.uint8)
Y = np.arange(20) % 2


def npz(**arrays: Any) -> Callable[[Path], str]:
    def write(root: Path) -> str:
        np.savez(root / "a.npz", **arrays)
        return f"npz:{root}/a.npz"

    return write


def spec(text: str) -> Callable[[Path], str]:
    return lambda root: text.replace("ROOT", str(root))


def file(name: str, content: bytes, spec: str) -> Callable[[Path], str]:
    def write(root: Path) -> str:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
        return spec.replace("ROOT", str(root))

    return write


def idx_bytes(array: np.ndarray, code: int = 8) -> bytes:
    return bytes([0, 0, code, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes() + array.tobytes()


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
GOOD = {IMAGES: idx_bytes(X), LABELS: idx_bytes(Y.astype(np.uint8))}


def idx(**changed: bytes | None) -> Callable[[Path], str]:
    """An IDX folder with files replaced (``images``, ``labels``, ``t10k_images``) or left out (None)."""
    names = {"images": IMAGES, "labels": LABELS, "t10k_images": "t10k-images-idx3-ubyte"}

    def write(root: Path) -> str:
        for name, content in (GOOD | {names[key]: value for key, value in changed.items()}).items():
            if content is not None:
                (root / name).write_bytes(content)
        return f"idx:{root}"

    return write


def folder(*paths: str) -> Callable[[Path], str]:
    def write(root: Path) -> str:
        for i, path in enumerate(paths):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(X[i % len(X)]).save(root / path)
        return f"folder:{root}"

    return write


def forged_npz(header_shape: str, content: bytes = b"") -> Callable[[Path], str]:
    """An npz whose array x declares a shape of its own choosing."""

    def write(root: Path) -> str:
        head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {header_shape}, }}".encode()
        head += b" " * (63 - (len(head) + 10) % 64) + b"\n"
        labels = io.BytesIO()
        np.save(labels, Y)
        with zipfile.ZipFile(root / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + content)
            archive.writestr("y.npy", labels.getvalue())
        return f"npz:{root}/a.npz"

    return write


def truncated_npz(root: Path) -> str:
    text = npz(x=X, y=Y)(root)
    content = (root / "a.npz").read_bytes()
    (root / "a.npz").write_bytes(content[: len(content) // 2])
    return text


def damaged_npz(root: Path) -> str:
    text = npz(x=X, y=Y)(root)
    content = bytearray((root / "a.npz").read_bytes())
    content[300] ^= 255
    (root / "a.npz").write_bytes(content)
    return text


def unreadable(root: Path) -> str:
    text = npz(x=X, y=Y)(root)
    (root / "a.npz").chmod(0)
    if os.access(root / "a.npz", os.R_OK):
        pytest.skip("this user may read everything")
    return text


def fifo(root: Path) -> str:
    os.mkfifo(root / "a.npz")
    return f"npz:{root}/a.npz"


nan = X.astype(np.float32)
nan[7, 1, 1] = np.nan
infinite = X.astype(np.float64)
infinite[3, 0, 0] = np.inf
pair = {"x": X, "y": Y, "x_test": X, "y_test": Y}

CASES: dict[str, tuple[Callable[[Path], str], dict[str, Any], str]] = {
    # the spec
    "unknown kind": (spec("digit"), {}, "unknown data 'digit': did you mean 'digits'"),
    "unknown kind with a path": (spec("cifar:ROOT"), {}, "did you mean 'cifar10'"),
    "nothing": (spec(""), {}, "unknown data ''"),
    "odd text": (spec("a\nb"), {}, "unknown data 'a\\\\nb'"),
    "a bare folder": (spec("ROOT"), {}, "did you mean 'folder:"),
    "a bare file": (file("a.bin", b"x", "ROOT/a.bin"), {}, "did you mean 'npz:"),
    "a bare image": (file("a.png", b"x", "ROOT/a.png"), {}, "a.png': this is one image where many are due; use digits"),
    "a name of nothing": (spec("ROOT/photos"), {}, "photos': there is no file or folder of this name; use digits"),
    "digits with a path": (spec("digits:ROOT"), {}, "take no path"),
    "npz without a path": (spec("npz"), {}, "names no path"),
    "folder without a path": (spec("folder:"), {}, "names no path"),
    "no such user": (spec("npz:~no-such-user-here/a.npz"), {}, "cannot be read|does not exist"),
    "null byte": (spec("npz:a\0b"), {}, "does not exist"),
    "endless name": (spec("npz:" + "a" * 5000), {}, "cannot be read: File name too long$"),
    "line break in a name": (spec("npz:ROOT/a\nb"), {}, "does not exist"),
    "image size above": (spec("digits"), {"image_size": 9}, "--image-size 9 is above the images' 8 x 8"),
    "image size zero": (spec("digits"), {"image_size": 0}, "--image-size 0 is no size"),
    "image size negative": (folder("a/1.png", "b/2.png"), {"image_size": -4}, "--image-size -4 is no size"),
    # files
    "npz missing": (spec("npz:ROOT/none.npz"), {}, "does not exist"),
    "npz below a file": (file("a", b"x", "npz:ROOT/a/b.npz"), {}, "does not exist"),
    "npz empty": (file("a.npz", b"", "npz:ROOT/a.npz"), {}, "is empty"),
    "npz is a folder": (spec("npz:ROOT"), {}, "is a folder where a file is due"),
    "npz is a fifo": (fifo, {}, "is no regular file"),
    "npz unreadable": (unreadable, {}, "Permission denied"),
    "idx missing": (spec("idx:ROOT/none"), {}, "does not exist"),
    "idx is a file": (file("a", b"x", "idx:ROOT/a"), {}, "is a file where a folder is due"),
    "idx empty folder": (spec("idx:ROOT"), {}, "is an empty folder"),
    "folder missing": (spec("folder:ROOT/none"), {}, "does not exist"),
    "folder is a file": (file("a", b"x", "folder:ROOT/a"), {}, "is a file where a folder is due"),
    "folder empty": (spec("folder:ROOT"), {}, "is an empty folder"),
    "cifar missing": (spec("cifar10:ROOT/none.tar.gz"), {}, "does not exist.*--download"),
    "cifar empty": (file("a.tar", b"", "cifar10:ROOT/a.tar"), {}, "is empty"),
    "cifar empty folder": (spec("cifar10:ROOT"), {}, "is an empty folder"),
    "cifar no archive": (file("a.tar", b"no archive" * 99, "cifar10:ROOT/a.tar"), {}, "or no archive"),
    "cifar broken gz": (file("a.gz", b"\x1f\x8bgarbage", "cifar10:ROOT/a.gz"), {}, "or no archive"),
    "cifar broken xz": (file("a.xz", b"\xfd7zXZ\0garbage!", "cifar10:ROOT/a.xz"), {}, "or no archive"),
    "cifar other folder": (file("a/b", b"x", "cifar10:ROOT/a"), {}, "none of the CIFAR-10 batches"),
    "cifar incomplete": (file("data_batch_1", b"x", "cifar10:ROOT"), {}, "data_batch_2.*does not exist"),
    # npz
    "npz no archive": (file("a.npz", b"x" * 99, "npz:ROOT/a.npz"), {}, "is no npz file"),
    "npz truncated": (truncated_npz, {}, "is no npz file, or a truncated one"),
    "npz damaged": (damaged_npz, {}, "cannot be read"),
    "npz without y": (npz(x=X, z=Y), {}, "has no array 'y' but 'x', 'z'"),
    "npz without anything": (npz(), {}, "has no array 'x'|is no npz file"),
    "npz x_test alone": (npz(x=X, y=Y, x_test=X), {}, "one of x_test and y_test"),
    "npz ragged": (npz(x=np.array([X[0], X[0, :2]], dtype=object), y=Y[:2]), {}, "mixed sizes.*never"),
    "npz object labels": (npz(x=X, y=np.array([None] * 20)), {}, "'y' holds Python objects"),
    "npz two dimensions": (npz(x=X[:, 0], y=Y), {}, "'x' has shape \\(20, 4\\)"),
    "npz scalar": (npz(x=3, y=Y), {}, "'x' has shape \\(\\)"),
    "npz channels first": (npz(x=np.zeros((20, 3, 8, 8)), y=Y), {}, "channels first"),
    "npz text pixels": (npz(x=X.astype(str), y=Y), {}, "no pixel values"),
    "npz complex pixels": (npz(x=X.astype(complex), y=Y), {}, "no pixel values"),
    "npz no images": (npz(x=X[:0], y=Y[:0]), {}, "there is no pixel"),
    "npz no height": (npz(x=X[:, :0], y=Y), {}, "there is no pixel"),
    "npz NaN": (npz(x=nan, y=Y), {}, "NaN .*image 7"),
    "npz infinite": (npz(x=infinite, y=Y), {}, "infinite .*image 3"),
    "npz NaN in the test set": (npz(x=nan[8:], y=Y[8:], x_test=nan, y_test=Y), {}, "test images hold NaN"),
    "npz above float32": (npz(x=X * 1e60, y=Y), {}, "too large for float32"),
    "npz lengths": (npz(x=X, y=Y[:19]), {}, "20 training images but 19 training labels"),
    "npz test lengths": (npz(**(pair | {"y_test": Y[:3]})), {}, "20 test images but 3 test labels"),
    "npz float labels": (npz(x=X, y=Y * 1.0), {}, "labels are float64"),
    "npz column of labels": (npz(x=X, y=Y[:, None]), {}, "labels have shape \\(20, 1\\)"),
    "npz odd bytes as labels": (npz(x=X, y=np.array([b"\xff", b"a"] * 10)), {}, "no UTF-8"),
    "npz one class": (npz(x=X, y=Y * 0 + 3), {}, "one class only \\('3'\\)"),
    "npz unknown test label": (npz(**(pair | {"y_test": Y + 1})), {}, "test labels without .*'2'"),
    "npz two kinds of labels": (npz(**(pair | {"y_test": Y.astype(str)})), {}, "one kind of label"),
    "npz mixed image sizes": (npz(**(pair | {"x_test": X[:, :3]})), {}, "mixed image sizes"),
    "npz mixed dtypes": (npz(**(pair | {"x_test": X / 255})), {}, "store both with one dtype"),
    "npz bomb": (forged_npz("(1000000, 1000, 1000)"), {}, "above the limit"),
    "npz overflowing bomb": (forged_npz("(4294967296, 4294967296, 4294967296)"), {}, "above the limit"),
    "npz negative shape": (forged_npz("(-20, 4, 4)", X.tobytes()), {}, "above the limit|cannot be read"),
    "npz declares too much": (forged_npz("(20, 4, 4)", X.tobytes()[:99]), {}, "cannot be read"),
    "npz declares too little": (forged_npz("(20, 4, 3)", X.tobytes()), {}, "more bytes"),
    "npz evil header": (forged_npz("__import__('os').system('x')"), {}, "cannot be read"),
    # idx
    "idx without images": (idx(images=None), {}, "has no train-images-idx3-ubyte"),
    "idx without labels": (idx(labels=None), {}, "has no train-labels-idx1-ubyte"),
    "idx half a test set": (idx(t10k_images=GOOD[IMAGES]), {}, "one of t10k-images and t10k-labels"),
    "idx empty file": (idx(images=b""), {}, "is empty"),
    "idx no idx": (idx(images=b"garbage and more"), {}, "is no IDX file"),
    "idx short header": (idx(images=GOOD[IMAGES][:9]), {}, "header ends early"),
    "idx truncated": (idx(images=GOOD[IMAGES][:-1]), {}, "is truncated: 319 of 320"),
    "idx too long": (idx(images=GOOD[IMAGES] + b"x"), {}, "has more than the 320 bytes"),
    "idx floats": (idx(images=idx_bytes(X, code=0x0D)), {}, "type 0x0d in 3 dimensions"),
    "idx labels as images": (idx(images=GOOD[LABELS]), {}, "in 1 dimensions: .* in 3 dimensions"),
    "idx lengths": (idx(labels=idx_bytes(Y[:5].astype(np.uint8))), {}, "20 training images but 5"),
    "idx bomb": (idx(images=b"\0\0\x08\x03" + b"\xff" * 12), {}, "above the limit"),
    "idx truncated gz": (idx(images=gzip.compress(GOOD[IMAGES])[:-20]), {}, "truncated or no gzip"),
    "idx gz of garbage": (idx(images=b"\x1f\x8b" + b"x" * 50), {}, "truncated or no gzip"),
    "idx one class": (idx(labels=idx_bytes(np.zeros(20, np.uint8))), {}, "one class only"),
    # folder
    "folder of loose images": (folder("1.png", "2.png"), {}, "no images in class folders"),
    "folder one class": (folder("a/1.png", "a/2.png"), {}, "one class only \\('a'\\)"),
    "folder unknown test class": (
        folder("train/a/1.png", "train/b/2.png", "test/a/3.png", "test/c/4.png"), {}, "test labels .*'c'"
    ),
    "folder test alone": (folder("train/a/1.txt.png", "test/a/1.png"), {}, "one class only"),
    "folder of broken images": (file("a/1.png", b"x", "folder:ROOT"), {}, "1 of 1 images cannot be used"),
    "folder of broken images skipped": (
        file("a/1.png", b"x", "folder:ROOT"), {"skip_bad": True}, "no readable training images"
    ),
    "folder image size above": (
        folder("a/1.png", "b/2.png"), {"image_size": 5}, "--image-size 5 is above the size of 2 images"
    ),
    "folder image size above, skipped": (
        folder("a/1.png", "b/2.png"), {"image_size": 5, "skip_bad": True}, "no readable training images"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", list(CASES))
def test_bad_input_is_one_line(case: str, tmp_path: Path) -> None:
    make, options, words = CASES[case]
    root = tmp_path / "r"
    root.mkdir()
    text = make(root)
    with pytest.raises(DataError, match=words) as caught:
        data.load(text, **options)
    assert type(caught.value) is DataError
    message = str(caught.value)
    assert len(message.splitlines()) == 1 and len(message) < 6000
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_fewer_images_than_the_split_needs(tmp_path: Path) -> None:
    loaded = data.load(npz(x=X[:6], y=Y[:6])(tmp_path))
    with pytest.raises(DataError, match="too few for a split"):
        data.split(loaded, 2000, 2000, seed=0)


def test_out_of_memory_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: sources.Source) -> None:
        raise MemoryError

    monkeypatch.setitem(data.READERS, "digits", fail)
    with pytest.raises(DataError, match="does not fit into memory"):
        data.load("digits")


def test_dataset_beyond_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_BYTES", 300_000)
    with pytest.raises(DataError, match="the dataset has shape .*--image-size"):
        data.load("digits")
    assert data.load("digits", image_size=2).image_shape == (2, 2, 1)
