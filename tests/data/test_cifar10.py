"""CIFAR-10: its layouts, its MD5s, its pickles, its download; and the real archive where it is there."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_cntk import data
from nas_cntk.data import cifar10
from nas_cntk.errors import DataError


@pytest.fixture
def tiny(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tools: dict[str, Callable[..., Any]]
) -> tuple[Path, np.ndarray, np.ndarray]:
    """A batch folder of 20 random images a batch that counts as official; its images and labels."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (6, 20, 32, 32, 3)).astype(np.uint8)
    y = np.arange(20) % 10
    names = (*cifar10.TRAINING, cifar10.TEST)
    folder = tmp_path / "cifar-10-batches-py"
    batches = {name: tools["batch"](part, y) for name, part in zip(names, x, strict=True)}
    monkeypatch.setattr(cifar10, "MD5", tools["cifar"](folder, batches))
    return folder, x, y


def archive(folder: Path, target: Path, mode: Any) -> Path:
    target.parent.mkdir(exist_ok=True)
    with tarfile.open(target, mode) as tar:
        tar.add(folder, folder.name)
    return target


@pytest.mark.parametrize("layout", ["folder", "parent", "tar", "tar.gz", "tar.xz", "odd name", "archive in folder"])
def test_layouts(layout: str, tiny: tuple[Path, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    folder, x, y = tiny
    path = {
        "folder": lambda: folder,
        "parent": lambda: tmp_path,
        "tar": lambda: archive(folder, tmp_path / "c.tar", "w"),
        "tar.gz": lambda: archive(folder, tmp_path / "c.tar.gz", "w:gz"),
        "tar.xz": lambda: archive(folder, tmp_path / "c.tar.xz", "w:xz"),
        "odd name": lambda: archive(folder, tmp_path / "no-suffix", "w:xz"),
        "archive in folder": lambda: archive(folder, tmp_path / "in" / cifar10.ARCHIVE_NAME, "w:gz").parent,
    }[layout]()
    loaded = data.load(f"cifar10:{path}")
    np.testing.assert_array_equal(loaded.x_train, x[:5].reshape(100, 32, 32, 3).astype(np.float32) / 255)
    np.testing.assert_array_equal(loaded.x_test, x[5].astype(np.float32) / 255)
    np.testing.assert_array_equal(loaded.y_train, np.tile(y, 5))
    assert loaded.classes == cifar10.CLASSES and loaded.name == "cifar10"
    assert not list(tmp_path.rglob("*.part"))


def test_wrong_md5_names_the_file(tiny: tuple[Path, np.ndarray, np.ndarray]) -> None:
    path = tiny[0] / "data_batch_3"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="data_batch_3 has MD5"):
        data.load(f"cifar10:{tiny[0]}")


class Gadget:
    """Unpickled by a careless reader, this leaves a file behind."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> Any:
        return self.call, self.arguments


@pytest.mark.parametrize("md5", ["official", "forged"])
@pytest.mark.parametrize("call", [os.system, eval, __import__], ids=["system", "eval", "import"])
def test_pickle_gadgets_are_refused_and_not_run(
    md5: str,
    call: Any,
    tiny: tuple[Path, np.ndarray, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mark = tmp_path / "gadget-ran"
    arguments = {
        os.system: (f"touch {mark}",),
        eval: (f"open({str(mark)!r}, 'w')",),
        __import__: ("antigravity",),
    }[call]
    content = pickle.dumps({b"data": Gadget(call, *arguments), b"labels": []}, protocol=3)
    (tiny[0] / "data_batch_1").write_bytes(content)
    if md5 == "forged":
        monkeypatch.setitem(cifar10.MD5, "data_batch_1", hashlib.md5(content).hexdigest())
    words = f"asks for .*{call.__name__}' and was not run" if md5 == "forged" else "has MD5"
    with pytest.raises(DataError, match=words) as caught:
        data.load(f"cifar10:{tiny[0]}")
    assert "\n" not in str(caught.value) and not mark.exists()


@pytest.mark.parametrize(
    "value",
    [
        {b"data": np.zeros((2, 3072), dtype=np.float32), b"labels": [0, 1]},
        {b"data": np.array([None]), b"labels": [0]},
        {b"data": np.zeros((2, 7), dtype=np.uint8), b"labels": [0, 1]},
        {b"data": np.zeros((2, 3072), dtype=np.uint8), b"labels": [0, 10]},
        {b"data": np.zeros((2, 3072), dtype=np.uint8), b"labels": "01"},
        {b"data": np.zeros((2, 3072), dtype=np.uint8)},
        {b"labels": [0, 1]},
        [1, 2],
        os.getcwd,
    ],
    ids=[
        "floats",
        "objects",
        "row length",
        "label 10",
        "label text",
        "no labels",
        "no data",
        "list",
        "function",
    ],
)
def test_other_pickles_are_refused(
    value: object, tiny: tuple[Path, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = pickle.dumps(value, protocol=3)
    (tiny[0] / "test_batch").write_bytes(content)
    monkeypatch.setitem(cifar10.MD5, "test_batch", hashlib.md5(content).hexdigest())
    with pytest.raises(DataError, match="test_batch") as caught:
        data.load(f"cifar10:{tiny[0]}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\x80", b"\x80\x03}q", b"garbage", b"." * 10, b"\x80\x03]q\x00R."])
def test_broken_pickles_are_one_line(content: bytes) -> None:
    with pytest.raises(DataError, match="data_batch_1") as caught:
        cifar10.unpickle(content, "data_batch_1")
    assert "\n" not in str(caught.value)


def test_python_2_pickles_with_old_numpy_names() -> None:
    """The bytes of the official batches: protocol 2, numpy.core, flags 0 and 1, Python 2 strings."""
    content = (
        b"\x80\x02}q\x01U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04"
        b"K\x00\x85U\x01b\x87Rq\x05(K\x01K\x01K\x02\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x02\x05\x07tbs."
    )
    table = cifar10.unpickle(content, "data_batch_1")
    np.testing.assert_array_equal(table[b"data"], np.array([[5, 7]], dtype=np.uint8))
    assert table[b"data"].dtype == np.uint8


def test_links_in_archives_are_refused(tiny: tuple[Path, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    (tiny[0] / "data_batch_2").unlink()
    (tiny[0] / "data_batch_2").symlink_to("/etc/hostname")
    path = archive(tiny[0], tmp_path / "c.tar.gz", "w:gz")
    with pytest.raises(DataError, match="data_batch_2 .*is a link"):
        data.load(f"cifar10:{path}")


def test_absurd_member_is_refused_before_it_is_read(tmp_path: Path) -> None:
    member = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
    member.size = 1 << 40
    (tmp_path / "c.tar").write_bytes(member.tobuf() + bytes(2048))
    with pytest.raises(DataError, match="1,099,511,627,776 bytes"):
        data.load(f"cifar10:{tmp_path / 'c.tar'}")


def test_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "MAX_ARCHIVE_BYTES", 1 << 20)
    with tarfile.open(tmp_path / "c.tar.xz", "w:xz") as tar:
        member = tarfile.TarInfo("readme.html")
        member.size = 8 << 20
        tar.addfile(member, io.BytesIO(bytes(member.size)))
    with pytest.raises(DataError, match="unpacks to over 1 MiB"):
        data.load(f"cifar10:{tmp_path / 'c.tar.xz'}")


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.xz"])
@pytest.mark.parametrize("fraction", [0.0005, 0.3, 0.9])
def test_truncated_archives(
    suffix: str, fraction: float, tiny: tuple[Path, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    path = archive(tiny[0], tmp_path / f"c.{suffix}", {"tar": "w", "tar.gz": "w:gz", "tar.xz": "w:xz"}[suffix])
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(DataError, match="truncated") as caught:
        data.load(f"cifar10:{path}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("into", ["new/folder", "new/cifar-10-python.tar.gz"])
def test_download(
    into: str, tiny: tuple[Path, np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    official = archive(tiny[0], tmp_path / "official.tar.gz", "w:gz")
    monkeypatch.setattr(cifar10, "URL", official.as_uri())
    spec = f"cifar10:{tmp_path / into}"
    with pytest.raises(DataError, match="gave a file with MD5"):
        data.load(spec, download=True)
    monkeypatch.setattr(cifar10, "ARCHIVE_MD5", hashlib.md5(official.read_bytes()).hexdigest())
    first = data.load(spec, download=True)
    monkeypatch.setattr(cifar10, "URL", "file:///nowhere")
    assert data.load(spec, download=True).fingerprint == first.fingerprint
    assert data.load(spec).fingerprint == first.fingerprint
    assert not list(tmp_path.rglob("*.part"))


def test_download_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "URL", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    for name in ("new", "new.tar.gz"):
        with pytest.raises(DataError, match="cannot download http://127.0.0.1:9") as caught:
            data.load(f"cifar10:{tmp_path / name}", download=True)
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="the download is a tar.gz"):
        data.load(f"cifar10:{tmp_path}/new.tar.xz", download=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_real_archive(shared_dir: Path) -> None:
    path = shared_dir / "data" / "cifar-10-batches-py.tar.xz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    loaded = data.load(f"cifar10:{path}", image_size=8)
    assert loaded.x_train.shape == (50_000, 8, 8, 3) and loaded.x_test.shape == (10_000, 8, 8, 3)
    assert np.bincount(loaded.y_train).tolist() == [5000] * 10
    assert np.bincount(loaded.y_test).tolist() == [1000] * 10
    assert [loaded.classes[y] for y in loaded.y_train[:5]] == ["frog", "truck", "truck", "deer", "automobile"]
    mean = loaded.x_train.mean(axis=(0, 1, 2), dtype=np.float64)
    np.testing.assert_allclose(mean, [0.4914, 0.4822, 0.4465], atol=5e-5)
    assert loaded.fingerprint == "ed3a0d0df63283ffc9aa90f70bb25332"
    drawn = data.split(data.standardise(loaded), 2000, 2000, seed=0)
    assert drawn.rungs == (250, 500, 1000, 2000) and drawn.notes == ()
    assert np.bincount(drawn.y).tolist() == np.bincount(drawn.y_holdout).tolist() == [200] * 10
