"""Files that are made to harm: archives that lead elsewhere, bombs, pickles that run, folders that never end."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import pickle
import re
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nas_cntk import data
from nas_cntk.data import cifar10, sources
from nas_cntk.errors import DataError

X = np.random.default_rng(0).integers(0, 256, (20, 4, 4)).astype(np.uint8)
Y = np.arange(20) % 2
MEMBER = "cifar-10-batches-py/data_batch_1"
GIB = 1 << 30

# Reads data in a process of its own, and prints what came of it, and the peak of memory beyond that of a process that
# has read something good.
MEASURED = """
import resource, sys
from nas_cntk import data
from nas_cntk.errors import DataError
import PIL.Image, scipy.linalg
def peak():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform != "darwin" else peak / 2**20
data.load("digits")
before = peak()
try:
    data.load(sys.argv[1], image_size=int(sys.argv[2]) or None)
    print("read")
except DataError as error:
    print("refused:", error)
print(peak() - before)
"""


def measured(spec: str, image_size: int = 0) -> tuple[str, float]:
    """What came of reading data, and MiB."""
    command = [sys.executable, "-c", MEASURED, spec, str(image_size)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)  # what still reads by then hangs
    assert done.returncode == 0, done.stderr
    outcome, mib = done.stdout.splitlines()
    return outcome, float(mib)


def npy(header: str, body: bytes = b"", version: tuple[int, int] = (1, 0), declared: int | None = None) -> bytes:
    head = header.encode() + b" " * (63 - (len(header) + 10) % 64) + b"\n"
    length = struct.pack("<I" if version >= (2, 0) else "<H", len(head) if declared is None else declared)
    return b"\x93NUMPY" + bytes(version) + length + head + body


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> str:
    labels = io.BytesIO()
    np.save(labels, Y)
    with zipfile.ZipFile(path, "w", method, compresslevel=1) as out:
        for name, content in ({"y.npy": labels.getvalue()} | members).items():
            out.writestr(name, content)
    return f"npz:{path}"


HEAD = "{{'descr': {}, 'fortran_order': False, 'shape': {}}}"
FORGED: dict[str, tuple[bytes, str]] = {
    "a header of gigabytes": (npy("", version=(2, 0), declared=2**32 - 1), "cannot be read"),
    "no bytes an item": (npy(HEAD.format("'|S0'", (10**12,))), "above the limit"),
    "an absurd shape": (npy(HEAD.format("'|u1'", f"({'9' * 5000},)")), "cannot be read|above the limit"),
    "an unhashable key": (npy("{[]: 1}"), "cannot be read"),
    "an empty descr": (npy(HEAD.format("()", (20, 4, 4))), "cannot be read"),
    "an open bracket": (npy("{'descr': ("), "cannot be read"),
    "a deep header": (npy("(" * 190 + ")" * 190), "cannot be read"),
    "objects": (npy(HEAD.format("'|O'", (20, 4, 4)), pickle.dumps(1)), "never unpickled"),
    "objects in fields": (npy(HEAD.format("[('a', '|O')]", (20, 4, 4)), pickle.dumps(1)), "never unpickled"),
}


@pytest.mark.parametrize("case", list(FORGED))
def test_forged_arrays_are_refused(case: str, tmp_path: Path) -> None:
    content, words = FORGED[case]
    with pytest.raises(DataError, match=words) as caught:
        data.load(archive(tmp_path / "a.npz", {"x.npy": content}))
    assert "\n" not in str(caught.value)


def test_strings_of_no_letters_are_no_labels(tmp_path: Path) -> None:
    letters = np.array([[65, 0], [0x110000, 66]] * 10, dtype=np.uint32).view("<U2")[:, 0]
    np.savez(tmp_path / "a.npz", x=X, y=letters)
    with pytest.raises(DataError, match="hold no Unicode"):
        data.load(f"npz:{tmp_path}/a.npz")


class Touches:
    """Unpickled by a careless reader, this leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("array", ["x", "y", "x_test"])
def test_pickles_in_an_npz_are_not_run(array: str, tmp_path: Path) -> None:
    gadget = np.empty(1, dtype=object)
    gadget[0] = Touches(tmp_path / "ran")
    arrays = {"x": X, "y": Y, "x_test": X, "y_test": Y} | {array: gadget}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match="never unpickled"):
        data.load(f"npz:{tmp_path}/a.npz")
    assert not (tmp_path / "ran").exists()
    with np.load(tmp_path / "a.npz", allow_pickle=True) as careless:
        careless[array]
    assert (tmp_path / "ran").exists(), "the gadget works"


def test_members_with_names_that_lead_elsewhere_write_nothing(tmp_path: Path) -> None:
    good = io.BytesIO()
    np.save(good, X)
    place = tmp_path / "in" / "a.npz"
    place.parent.mkdir()
    names = ("../out.npy", f"{tmp_path}/out.npy", "..\\out.npy", "x/../../out.npy")
    spec = archive(place, {"x.npy": good.getvalue()} | {name: b"out" for name in names})
    data.load(spec)
    with tarfile.open(tmp_path / "in" / "a.tar", "w") as out:
        for name in (f"../../{MEMBER}", f"{tmp_path}/data_batch_2", "../data_batch_3"):
            member = tarfile.TarInfo(name)
            member.size = 3
            out.addfile(member, io.BytesIO(b"out"))
    with pytest.raises(DataError, match="has no data_batch_4"):
        data.load(f"cifar10:{tmp_path}/in/a.tar")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.npz", "a.tar", "in"]


def test_npz_compressed_by_methods_without_a_limit_are_refused(tmp_path: Path) -> None:
    content = io.BytesIO()
    np.save(content, X)
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with pytest.raises(DataError, match="compressed in a way that numpy has not"):
            data.load(archive(tmp_path / "a.npz", {"x.npy": content.getvalue()}, method))


KINDS = {
    "link": tarfile.SYMTYPE,
    "hard link": tarfile.LNKTYPE,
    "character device": tarfile.CHRTYPE,
    "block device": tarfile.BLKTYPE,
    "pipe": tarfile.FIFOTYPE,
    "folder": tarfile.DIRTYPE,
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_members_that_are_no_files_are_refused(kind: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as out:
        member = tarfile.TarInfo(MEMBER)
        member.type, member.linkname = KINDS[kind], "/etc/passwd"
        out.addfile(member)
    with pytest.raises(DataError, match="is a link or no regular file"):
        data.load(f"cifar10:{tmp_path}/a.tar")


def tar_of(header: tarfile.TarInfo, body: bytes = b"") -> bytes:
    return header.tobuf(tarfile.GNU_FORMAT) + body


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member


def sparse_pax() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = header("GNUSparseFile.0/data_batch_1", 512)
        sparse = {"major": "1", "minor": "0", "name": "data_batch_1", "realsize": str(2**40)}
        member.pax_headers = {f"GNU.sparse.{name}": value for name, value in sparse.items()}
        archive.addfile(member, io.BytesIO(b"1\n0\n1\n".ljust(512, b"\0")))
    return out.getvalue()


TARS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a file of exabytes before them": (lambda: tar_of(header("readme", 2**62)), "ends within a member"),
    "a batch of exabytes": (lambda: tar_of(header(MEMBER, 2**62)), "a batch of CIFAR-10 about 31 million"),
    "a batch of less than nothing": (lambda: tar_of(header(MEMBER, -(2**70))), "a batch of CIFAR-10 about 31 million"),
    "a name of gigabytes": (lambda: tar_of(header("x", 2**33, tarfile.GNUTYPE_LONGNAME)), "a header of 8,589,934,592"),
    "a pax header of gigabytes": (lambda: tar_of(header("x", 2**33, tarfile.XHDTYPE)), "a header of 8,589,934,592"),
    "a file with holes": (lambda: tar_of(header(MEMBER, 0, tarfile.GNUTYPE_SPARSE)), "a file with holes"),
    "a file with holes, as pax": (sparse_pax, "a file with holes"),
    "members without end": (
        lambda: b"".join(tar_of(header(f"{i}", 0)) for i in range(51)),
        "over 50 members",
    ),
}


@pytest.mark.parametrize("case", list(TARS))
def test_hostile_tar_headers_are_refused_at_once(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, words = TARS[case]
    monkeypatch.setattr(cifar10, "MAX_MEMBERS", 50)
    (tmp_path / "a.tar").write_bytes(make())
    with pytest.raises(DataError, match=words):
        data.load(f"cifar10:{tmp_path}/a.tar")


def zeros(n: int, write: Callable[[bytes], object], block: int = 1 << 24) -> None:
    for _ in range(n // block):
        write(bytes(block))


def idx_bomb(root: Path) -> tuple[str, int]:
    for name, sizes in (("train-images-idx3-ubyte.gz", (GIB, 1, 1)), ("train-labels-idx1-ubyte.gz", (GIB,))):
        with gzip.open(root / name, "wb", compresslevel=1) as out:
            out.write(bytes([0, 0, 8, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes))
            zeros(1 << 26, out.write)  # one that ends early: what it declares is not there
    return f"idx:{root}", 0


def tar_bomb(kind: str) -> Callable[[Path], tuple[str, int]]:
    def write(root: Path) -> tuple[str, int]:
        opened: Any = {
            "gz": lambda: gzip.open(root / "a", "wb", compresslevel=1),
            "xz": lambda: lzma.open(root / "a", "wb", preset=0),
        }[kind]
        with opened() as out:
            out.write(tar_of(header("readme", 2 * GIB)))
            zeros(GIB if kind == "gz" else GIB * 5 // 8, out.write)
        return f"cifar10:{root}/a", 0

    return write


def npz_bomb(root: Path) -> tuple[str, int]:
    """Header and zip directory agree on six gigabytes, which are not looked at."""
    spec = archive(root / "a.npz", {"x.npy": npy(HEAD.format("'|u1'", (6 * GIB // 16, 4, 4)), bytes(1 << 20))})
    return spec, 0


def bz2_bomb(root: Path) -> tuple[str, int]:
    """Four kilobytes that the zip module unpacks in one go, to what is in them."""
    head = npy(HEAD.format("'|u1'", (GIB // 16, 4, 4)))
    out = bz2.BZ2Compressor(9)
    parts = [out.compress(head)]
    zeros(GIB, lambda block: parts.append(out.compress(block)))
    content = b"".join((*parts, out.flush()))
    assert len(content) < 4096
    archive(root / "a.npz", {"x.npy": content}, zipfile.ZIP_STORED)
    raw = bytearray((root / "a.npz").read_bytes())
    for signature, at in ((b"PK\3\4", 8), (b"PK\1\2", 10)):  # the local header and the directory: method 12, its size
        where = raw.rindex(signature)
        raw[where + at : where + at + 2] = struct.pack("<H", 12)
        raw[where + at + 14 : where + at + 18] = struct.pack("<I", GIB + len(head))
    (root / "a.npz").write_bytes(raw)
    return f"npz:{root}/a.npz", 0


def png_bomb(root: Path) -> tuple[str, int]:
    """Two images of 60 million transparent pixels, under Pillow's limit, a kilobyte for every million."""
    width, height = 8000, 7500
    row = b"\0" + bytes(4 * width)
    pixels = zlib.compressobj(1)
    body = b"".join((*(pixels.compress(row) for _ in range(height)), pixels.flush()))
    for name in "ab":
        (root / name).mkdir()
        with (root / name / "1.png").open("wb") as out:
            out.write(b"\x89PNG\r\n\x1a\n")
            for kind, content in (
                (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)),
                (b"IDAT", body),
                (b"IEND", b""),
            ):
                check = struct.pack(">I", zlib.crc32(kind + content))
                out.write(struct.pack(">I", len(content)) + kind + content + check)
    return f"folder:{root}", 2


BOMBS: dict[str, tuple[Callable[[Path], tuple[str, int]], str]] = {
    "idx": (idx_bomb, "refused: .*truncated"),
    "tar.gz": (tar_bomb("gz"), "refused: .*unpacks to over 512 MiB"),
    "tar.xz": (tar_bomb("xz"), "refused: .*unpacks to over 512 MiB"),
    "npz": (npz_bomb, "refused: .*above the limit"),
    "npz by bz2": (bz2_bomb, "refused: .*compressed in a way"),
    "png": (png_bomb, "read"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "bomb", [pytest.param(one, marks=pytest.mark.long) if one in ("tar.xz", "png") else one for one in BOMBS]
)
def test_bombs_take_bounded_memory(bomb: str, tmp_path: Path) -> None:
    make, words = BOMBS[bomb]
    outcome, mib = measured(*make(tmp_path))
    assert re.match(words, outcome), outcome
    assert mib < 1024, f"{mib:,.0f} MiB"


def test_what_sorting_labels_would_take_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand million images of one pixel fit where their labels, as numbers to sort, do not."""
    np.savez(tmp_path / "a.npz", x=np.zeros((1000, 1, 1), np.uint8), y=np.zeros(1000, np.uint8))
    monkeypatch.setattr(sources, "MAX_BYTES", 20_000)
    with pytest.raises(DataError, match="the list of labels has shape .1000,., .* above the limit"):
        data.load(f"npz:{tmp_path}/a.npz")


def test_all_arrays_of_an_npz_share_one_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "a.npz", x=X, y=Y, x_test=X, y_test=Y)
    monkeypatch.setattr(sources, "MAX_BYTES", 600)
    with pytest.raises(DataError, match="all arrays together"):
        data.load(f"npz:{tmp_path}/a.npz")


def good_folder(root: Path) -> Path:
    for name in "ab":
        (root / name).mkdir(parents=True)
        for number in range(3):
            Image.fromarray(X[number]).save(root / name / f"{number}.png")
    return root


def test_pipes_devices_and_endless_files_among_images(tmp_path: Path) -> None:
    root = good_folder(tmp_path)
    os.mkfifo(root / "a" / "pipe.png")
    os.mkfifo(root / "a" / "pipe")
    (root / "a" / "loop.png").symlink_to("loop.png")
    with (root / "a" / "endless.webp").open("wb") as file:  # a terabyte of holes, which WebP would read whole
        file.write(b"RIFF\xff\xff\xff\x7fWEBPVP8 ")
        file.truncate(1 << 40)
    with (root / "a" / "line.bmp").open("wb") as file:  # one line of 80 million pixels
        head = struct.pack("<IiiHHIIiiII", 40, 80_000_000, 1, 1, 1, 0, 10_000_000, 0, 0, 2, 0)
        file.write(b"BM" + struct.pack("<IHHI", 10_000_062, 0, 0, 62) + head + bytes(8))
        file.truncate(10_000_062)
    with pytest.raises(DataError, match="images cannot be used") as caught:
        data.load(f"folder:{root}")
    loaded = data.read(f"folder:{root}", skip_bad=True)
    assert len(loaded.x) == 6
    reasons = dict(loaded.left_out)
    assert reasons["a/pipe.png"] == "no regular file" and reasons["a/endless.webp"] == "1,099,511,627,776 bytes"
    assert reasons["a/line.bmp"] == "1 x 80,000,000 pixels" and reasons["a/loop.png"] == "no regular file"
    assert "endless.webp" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("target", ["/dev/zero", "/etc/hostname", ".."])
def test_links_to_elsewhere_are_refused_whatever_they_are(target: str, tmp_path: Path) -> None:
    root = good_folder(tmp_path / "root")
    (root / "a" / "x.png").symlink_to(target if target != ".." else tmp_path)
    with pytest.raises(DataError, match="link that leaves the folder"):
        data.load(f"folder:{root}", skip_bad=True)


def test_class_folders_that_are_links_to_each_other_end(tmp_path: Path) -> None:
    root = good_folder(tmp_path)
    (root / "c").symlink_to("d")
    (root / "d").symlink_to("c")
    (root / "e").symlink_to(".")
    (root / "f").symlink_to("f")
    loaded = data.read(f"folder:{root}")
    assert sorted(set(loaded.labels)) == ["a", "b", "e"] and len(loaded.x) == 12


def test_folders_deeper_than_a_path_can_name_are_one_line(tmp_path: Path) -> None:
    root = good_folder(tmp_path)
    here = os.open(root / "a", os.O_RDONLY)
    for _ in range(1200):  # a path of 4800 characters
        os.mkdir("ddd", dir_fd=here)
        deeper = os.open("ddd", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    with pytest.raises(DataError, match="cannot be read"):
        data.load(f"folder:{root}")
    subprocess.run(["rm", "-rf", str(root / "a")], check=True)  # shutil recurses
