"""Gram matrices: the same bits however they came about, in memory and on disk; damage and misuse are found."""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from plain_nets import plain

import nas_cntk
from nas_cntk import Architecture, Builder
from nas_cntk.errors import IllegalArchitecture, KernelError, NasCntkError, UsageError
from nas_cntk.kernels import budget, exact
from nas_cntk.kernels import store as store_module
from nas_cntk.kernels.gram import Gram, gram, gram_family, meter

SHAPE = (6, 5, 3)
SIDE = 32  # of tiles and blocks in these tests, so that 100 images make several


FLAT, POOLED = plain(3), plain(2, "gap")


def pictures(n: int, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((n, *shape)).astype(np.float32)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "SIDES", (2 * SIDE, SIDE, 16))
    monkeypatch.setattr(budget.Work, "side_in_memory", lambda *_: SIDE)


@pytest.fixture(params=["memory", "disk"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "store" if request.param == "disk" else None


def tile_files(store: Path) -> list[Path]:
    return sorted(file for file in store.glob("*-ntk/c/*/*") if not file.parts[-4].startswith("test-"))


def same(a: Any, b: Any) -> bool:
    return np.asarray(a).tobytes() == np.asarray(b).tobytes()


class Calls:
    """Counts the pairs that are computed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pairs = 0
        real: Callable[..., Any] = exact.kernel_family

        def counting(archs: Any, x1: Any, x2: Any = None, **rest: Any) -> Any:
            self.pairs += len(x1) * (len(x1) + 1) // 2 if x2 is None else len(x1) * len(x2)
            return real(archs, x1, x2, **rest)

        monkeypatch.setattr(exact, "kernel_family", counting)


@pytest.mark.parametrize("arch", [FLAT, POOLED], ids=["flatten", "pooled"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_gram_matrix_is_the_kernel_bit_by_bit(arch: Architecture, dtype: str, place: Path | None) -> None:
    x = pictures(100)
    found = gram(arch, x, store=place, dtype=dtype)
    assert same(found, nas_cntk.kernel(arch, x, dtype=dtype))
    assert found.shape == (100, 100) and found.dtype == dtype and len(found) == 100
    assert (found.path is None) == (place is None)


@pytest.mark.parametrize("steps", [(1, 2, 100), (32, 64, 96, 100), (50, 70, 71, 100), (100,)])
def test_growing_computes_new_pairs_alone_and_ends_the_same(
    steps: tuple[int, ...], place: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = pictures(100)
    whole = nas_cntk.kernel(FLAT, x)
    calls = Calls(monkeypatch)
    found = gram(FLAT, x[: steps[0]], store=place)
    for old, new in zip(steps, steps[1:], strict=False):
        assert found.extend(x[old:new]) is found
        assert same(found, np.ascontiguousarray(whole[:new, :new]))
        assert calls.pairs == new * (new + 1) // 2, "an old pair was computed again, or not every new one"
    assert same(found, whole)


def test_a_view_that_is_held_survives_growing() -> None:
    x = pictures(60)
    found = gram(FLAT, x[:40])
    view = np.asarray(found)
    before = view.copy()
    found.extend(x[40:])
    assert same(view, before) and same(found, nas_cntk.kernel(FLAT, x))
    with pytest.raises(ValueError, match="read-only"):
        view[0, 0] = 1


def test_a_matrix_in_memory_grows_without_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    x = pictures(60)
    found = gram(FLAT, x[:40])
    real: Callable[..., Any] = np.empty
    shapes: list[Any] = []

    def watching(shape: Any, *rest: Any, **more: Any) -> Any:
        shapes.append(shape)
        return real(shape, *rest, **more)

    monkeypatch.setattr(np, "empty", watching)
    found.extend(x[40:])
    monkeypatch.undo()
    assert (60, 60) not in shapes
    assert same(found, nas_cntk.kernel(FLAT, x))


KEYS: list[Any] = [
    np.s_[3],
    np.s_[3, 4],
    np.s_[-1, ::7],
    np.s_[::-1, 40],
    np.s_[[3, 90, 3], 5:9],
    np.s_[[1, 2], [90, 3]],
    np.s_[...],
    np.s_[..., 5],
    np.s_[5, ...],
    np.s_[20:20],
    np.s_[np.arange(100) % 3 == 0],
    np.s_[10:95:3, ::-2],
    np.s_[np.array([40, 2])[:, None][:, 0], 7],
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_numpy_indexing(key: Any, place: Path | None) -> None:
    x = pictures(100)
    found = gram(POOLED, x, store=place)
    whole = np.array(found)
    assert np.array_equal(found[key], whole[key]) and np.shape(found[key]) == whole[key].shape


def test_parts_and_refusals_of_indexing(tmp_path: Path) -> None:
    x = pictures(70)
    found = gram(POOLED, x, store=tmp_path / "s")
    whole = np.array(found)
    assert same(found.rows(30, 45), np.ascontiguousarray(whole[30:45]))
    assert same(np.concatenate([rows for _, rows in found.row_blocks()]), whole)
    assert same(found.diagonal(), whole.diagonal().copy())
    pieces = np.zeros_like(whole)
    for (top, bottom), (left, right), block in found.tiles():
        pieces[top:bottom, left:right] = block
    assert np.array_equal(np.triu(pieces), np.triu(whole))
    assert np.asarray(found, dtype=np.float64).dtype == np.float64
    for key in (70, (0, -71), (0, 0, 0), None, np.zeros((70, 70), dtype=bool)):
        with pytest.raises(IndexError):
            found[key]
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(found, copy=False)


@pytest.mark.parametrize("kind", ["ntk", "nngp", "both"])
def test_a_family_grows_in_one_pass(kind: Any, place: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    x, test = pictures(70), pictures(40, 1)
    archs = [FLAT, POOLED, FLAT]
    calls = Calls(monkeypatch)
    family = gram_family(archs, x[:50], store=place, kind=kind)
    family.extend(x[50:])
    assert calls.pairs == 70 * 71 // 2
    crosses = family.against(test)
    calls.pairs = 0
    wanted: Any = nas_cntk.kernel_family([FLAT, POOLED], x, kind=kind)
    wanted_test: Any = nas_cntk.kernel_family([FLAT, POOLED], test, x, kind=kind)
    for index, distinct in enumerate([0, 1, 0]):
        if kind == "both":
            for found, right in zip(
                (*family[index], *crosses[index]), (*wanted[distinct], *wanted_test[distinct]), strict=True
            ):
                assert same(found, right)
        else:
            assert same(family[index], wanted[distinct]) and same(crosses[index], wanted_test[distinct])
    member = family[1][1] if kind == "both" else family[1]
    with pytest.raises(UsageError, match="extend the family"):
        member.extend(x[:1])
    alone = member.against(test)
    assert np.allclose(alone, wanted_test[1][1] if kind == "both" else wanted_test[1], rtol=1e-5)


def test_test_blocks_grow_with_the_matrix(place: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    x, test = pictures(70), pictures(40, 1)
    found = gram(POOLED, x[:50], store=place)
    cross = found.against(test)
    assert cross.shape == (40, 50) and same(cross, nas_cntk.kernel(POOLED, test, x[:50]))
    found.extend(x[50:])
    calls = Calls(monkeypatch)
    grown = found.against(test)
    assert calls.pairs == (40 * 20 if place else 40 * 70)
    assert same(grown, nas_cntk.kernel(POOLED, test, x))
    assert np.array_equal(grown[::7, 60:], np.asarray(grown)[::7, 60:])


def test_a_store_serves_a_smaller_and_a_larger_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = pictures(100)
    whole = nas_cntk.kernel(POOLED, x)
    gram(POOLED, x[:60], store=tmp_path / "s")
    calls = Calls(monkeypatch)
    assert np.array_equal(gram(POOLED, x[:45], store=tmp_path / "s"), whole[:45, :45])
    assert calls.pairs == 0
    assert same(gram(POOLED, x, store=tmp_path / "s"), whole)
    assert calls.pairs == 100 * 101 // 2 - 60 * 61 // 2
    assert np.array_equal(gram(POOLED, x[:60], store=tmp_path / "s"), whole[:60, :60])


def test_torn_tiles_are_found_and_computed_again(tmp_path: Path) -> None:
    x = pictures(150)
    whole = nas_cntk.kernel(POOLED, x)
    found = gram(POOLED, x, store=tmp_path / "s")
    files = tile_files(tmp_path / "s")
    assert len(files) == 15, "only the upper triangle of the tiles is stored"
    content = files[5].read_bytes()
    files[3].write_bytes(files[3].read_bytes()[:100])
    files[5].write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
    files[7].write_bytes(b"")
    files[8].unlink()
    with pytest.raises(KernelError, match=r"missing or damaged; ask for the matrix again"):
        np.asarray(found)
    seen: list[float] = []
    assert same(gram(POOLED, x, store=tmp_path / "s", progress=seen.append), whole)
    assert 0.5 < seen[0] < 1 and seen[-1] == 1 and seen == sorted(seen)
    assert same(found, whole)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"arch": FLAT}, "made for architectures"),
        ({"x": pictures(60, 9)}, r"other images \(number 0 differs\)"),
        ({"dtype": "float64"}, "made for dtype float32, not float64"),
        ({"kind": "nngp"}, "made for kind ntk, not nngp"),
        ({"kind": "both"}, "made for kind ntk, not both"),
        ({"backend": "reference"}, "made for backend cpu, not reference"),
        ({"x": pictures(60).astype(np.float64)}, "made for image dtype float32, not float64"),
        ({"x": pictures(60, shape=(5, 6, 3))}, "made for image shape"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_identity_is_refused(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"arch": POOLED, "x": pictures(60), "store": tmp_path / "s"}
    gram(**arguments)
    with pytest.raises(KernelError, match=words) as caught:
        gram(**{**arguments, **change})
    assert "\n" not in str(caught.value) and "name another folder" in str(caught.value)


def test_another_instruction_set_is_refused(tmp_path: Path) -> None:
    from nas_cntk.kernels import _native

    if len(_native.instruction_sets()) < 2:
        pytest.skip("this machine has one instruction set")
    program = textwrap.dedent("""
        import sys, numpy as np, nas_cntk
        from nas_cntk.kernels.gram import gram
        b = nas_cntk.Builder()
        b.dense(b.flatten(b.relu(b.conv(b.input(), 3))))
        try:
            gram(b.build(), np.ones((3, 4, 4, 1), np.float32), store=sys.argv[1])
        except nas_cntk.errors.KernelError as error:
            print(error)
    """)
    out = ""
    for name in _native.instruction_sets()[:2]:
        run = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "s")],
            env={**os.environ, "NAS_CNTK_ISA": name},
            capture_output=True,
            text=True,
            check=True,
        )
        out += run.stdout
    assert "made for instruction set" in out


def test_folders_that_are_no_store(tmp_path: Path) -> None:
    import zarr

    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    zarr.open_group(tmp_path / "zarr", mode="a")
    gram(POOLED, pictures(5), store=tmp_path / "torn")
    (tmp_path / "torn" / "zarr.json").write_text("{")
    for name, words in (
        ("file", "is a file"),
        ("file/below", "cannot be used"),
        ("full", "holds 'letter.txt'"),
        ("zarr", "no Gram store"),
        ("torn", "is damaged"),
    ):
        with pytest.raises(KernelError, match=words) as caught:
            gram(POOLED, pictures(5), store=tmp_path / name)
        assert "\n" not in str(caught.value)
    assert (tmp_path / "full" / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize(
    "number, words", [(errno.ENOSPC, "is kept: free some space"), (errno.EROFS, "make it writable")]
)
def test_a_disk_that_fails_loses_nothing(
    number: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = pictures(150)
    real = store_module.Store.write
    written = []

    def failing(self: Any, *arguments: Any) -> None:
        if len(written) >= 6:
            raise OSError(number, os.strerror(number))
        written.append(1)
        real(self, *arguments)

    monkeypatch.setattr(store_module.Store, "write", failing)
    with pytest.raises(KernelError, match=words) as caught:
        gram(POOLED, x, store=tmp_path / "s")
    assert "\n" not in str(caught.value) and str(tmp_path / "s") in str(caught.value)
    monkeypatch.setattr(store_module.Store, "write", real)
    calls = Calls(monkeypatch)
    again = gram(POOLED, x, store=tmp_path / "s")
    monkeypatch.undo()
    assert same(again, nas_cntk.kernel(POOLED, x))
    assert 0 < calls.pairs < 150 * 151 // 2


def test_too_little_room_is_known_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(KernelError, match=r"needs .* more and its disk has 1\.?0? ?kB"):
        gram(POOLED, pictures(60), store=tmp_path / "s")


def test_a_finished_matrix_can_be_read_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = pictures(60)
    whole = np.array(gram(POOLED, x, store=tmp_path / "s"))

    @contextlib.contextmanager
    def refused(self: Any, needed: int) -> Any:
        raise AssertionError("wanted to write")
        yield

    monkeypatch.setattr(store_module.Store, "writing", refused)
    assert same(gram(POOLED, x, store=tmp_path / "s"), whole)


def test_two_processes_do_not_write_one_store(tmp_path: Path) -> None:
    found = gram(POOLED, pictures(40), store=tmp_path / "s")
    store = found._place.store
    assert store is not None
    with store.writing(0), pytest.raises(KernelError, match="another process is computing"):
        gram(POOLED, pictures(50), store=tmp_path / "s")
    gram(POOLED, pictures(50)[:40], store=tmp_path / "s")


def test_an_interruption_keeps_what_was_there(place: Path | None) -> None:
    x = pictures(100)
    found = gram(POOLED, x[:40], store=place)
    old = np.array(found)
    asked = []

    def enough() -> bool:
        asked.append(1)
        return len(asked) > 6

    with pytest.raises(KeyboardInterrupt):
        found.extend(x[40:], cancelled=enough)
    assert found.shape == (40, 40) and same(found, old)
    assert same(found.extend(x[40:]), nas_cntk.kernel(POOLED, x))


def test_memory_decides_where_a_matrix_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nas_cntk.kernels import gram as gram_module

    monkeypatch.setattr(gram_module, "FREE_BYTES", 0)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    x = pictures(600, shape=(2, 2, 1))
    arch = plain(1)
    found = gram(arch, x[:500], memory=2**20)  # 1,000,000 bytes
    assert found.path is None
    held = np.array(found)
    found.extend(x[500:])  # 1,440,000 bytes: moves to a temporary folder
    assert found.path is not None and found.path.parent == tmp_path
    assert np.array_equal(found[:500, :500], held) and same(found, nas_cntk.kernel(arch, x))
    folder = found.path
    del found
    gc.collect()
    assert not folder.exists(), "the temporary folder outlives its matrix"


def test_images_changed_in_place_are_noticed() -> None:
    x = pictures(20)
    found = gram(POOLED, x)
    x[3] += 1
    with pytest.raises(KernelError, match="changed in place"):
        found.extend(pictures(5, 1))


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: gram(POOLED, pictures(3), memory="lots"), UsageError, "'lots' is no budget"),
        (lambda: gram(POOLED, pictures(3), memory=-1), UsageError, "no budget"),
        (lambda: gram(POOLED, pictures(3), kind="gap"), UsageError, "kind must be"),  # type: ignore[call-overload]
        (lambda: gram(POOLED, pictures(3), dtype="float16"), UsageError, "dtype must be"),
        (lambda: gram_family([], pictures(3)), UsageError, "one architecture at least"),
        (lambda: gram(POOLED, np.ones((3, 4))), KernelError, "must have shape"),
        (lambda: gram(POOLED, np.full((3, 4, 4, 1), np.nan)), KernelError, "NaN"),
        (lambda: gram(POOLED, pictures(3)).extend(pictures(3, shape=(2, 2, 3))), KernelError, "must be equal"),
        (lambda: gram(POOLED, pictures(3)).against(pictures(3, shape=(2, 2, 3))), KernelError, "must be equal"),
        (lambda: gram(POOLED, pictures(3)).extend(pictures(3).astype(float)), KernelError, "give one dtype"),
    ],
)
def test_misuse_gets_one_line(call: Callable[[], Gram], error: type[NasCntkError], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_no_ntk_without_trainable_layers(place: Path | None) -> None:
    b = Builder()
    b.dense(b.flatten(b.relu(b.conv(b.input(), 3, trainable=False))), trainable=False)
    with pytest.raises(IllegalArchitecture, match="no trainable layer"):
        gram(b.build(), pictures(3), store=place)


def test_budgets() -> None:
    assert budget.parse_memory("2GiB") == 2**31
    assert budget.parse_memory("500 MB") == 500_000_000
    assert budget.parse_memory(2**21) == 2**21
    assert 2**20 < budget.parse_memory(None) <= budget.available_memory()
    assert budget.parse_memory("1.5G") == 1_500_000_000


def test_the_meter_shows_rate_and_rest() -> None:
    stream = io.StringIO()
    show = meter(1e9, stream)
    for fraction in (0.5, 0.75, 1.0):
        show(fraction)
    text = stream.getvalue()
    assert "100.0 %" in text and "entry-layers/s" in text and "s left" in text and text.endswith("\n")
