"""gram.cu on a CPU that plays the GPU, against the reference: golden files, spaces, random architectures."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from host_device import HostDevice
from numpy.typing import NDArray
from random_architectures import Case, random_architecture, random_case, random_images

from nas_cntk import Architecture, Builder, kernel
from nas_cntk.kernels.cuda_layout import thread_tile
from nas_cntk.kernels.cuda_plan import cuda_plan
from nas_cntk.kernels.cuda_run import Engine
from nas_cntk.ops import Shape

TOLERANCES = {"float64": 1e-9, "float32": 5e-5}
KINDS = ("nngp", "ntk")
LITTLE_SHARED = 1024  # bytes: too few for the sheets of a pair
DIAGONAL_TOLERANCE = 1e-8  # of golden ntk_self: see tests/kernels/test_golden.py
Images = NDArray[np.floating]


def kernels(
    archs: list[Architecture],
    x1: Images,
    x2: Images | None,
    dtype: str,
    device: HostDevice,
    tangents: bool = True,
    capacity: int = 7,
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return (nngp, ntk) of a family."""
    plan = cuda_plan(archs, x1.shape[1:], np.dtype(dtype).itemsize, tangents, device.limits)
    engine = Engine(device, plan)
    sums = engine.finish(engine.start(x1, x2, capacity))
    found = []
    for readout in plan.family.readouts:
        s, t = sums[readout.head]
        found.append((s, t + s if readout.trainable else t))
    return found


def error_of(got: NDArray[np.floating], true: NDArray[np.floating]) -> float:
    """The greatest error over the greatest entry; a kernel that is 0 everywhere must be 0."""
    size = float(np.abs(true).max())
    return float(np.abs(got - true).max()) / (size if size > 0 else 1.0)


def compare(case: Case, device: HostDevice, dtypes: tuple[str, ...] = ("float64", "float32")) -> None:
    true = kernel(case.arch, case.x1, case.x2, kind="both", backend="reference", dtype="float64")
    for dtype in dtypes:
        got = kernels([case.arch], case.x1, case.x2, dtype, device)[0]
        for kind, a, b in zip(KINDS, got, true, strict=True):
            assert error_of(a, b) < TOLERANCES[dtype], f"{dtype} {kind}: {case.name}"


@pytest.fixture(scope="module")
def device() -> Iterator[HostDevice]:
    """A device that, at the end, must have seen every kernel there is."""
    device = HostDevice()
    yield device


def plain(convs: int, head: str, size: int = 3, pool: int = 2) -> Architecture:
    b = Builder()
    x = b.input()
    for _ in range(convs):
        x = b.relu(b.conv(x, size))
    if head == "local":
        x = b.avg_pool(x, pool)
    b.dense(b.global_avg_pool(x) if head == "global" else b.flatten(x))
    return b.build()


def residual() -> Architecture:
    b = Builder()
    x = b.conv(b.input(), 3)
    for _ in range(2):
        x = b.add(x, b.conv(b.relu(b.conv(b.relu(x), 3)), 3))
    x = b.conv(b.relu(x), 3, 2)
    b.dense(b.global_avg_pool(b.relu(b.add(x, b.conv(b.relu(x), 3)))))
    return b.build()


def _golden() -> list[object]:
    folder = Path(os.environ.get("NAS_CNTK_SHARED", Path(__file__).resolve().parents[4] / "shared")) / "golden"
    names = sorted(path.name for path in folder.glob("*.npz"))
    return names or [pytest.param("", marks=pytest.mark.skip(reason=f"no golden kernels in {folder}"))]


@pytest.mark.parametrize("name", _golden())
def test_cuda_golden(name: str, shared_dir: Path, device: HostDevice) -> None:
    with np.load(shared_dir / "golden" / name, allow_pickle=False) as golden:
        case = dict(golden)
    arch = Architecture.from_json(str(case["architecture"]))
    for dtype, tolerance in TOLERANCES.items():
        cross = kernels([arch], case["x1"], case["x2"], dtype, device)[0]
        own = kernels([arch], case["x1"], None, dtype, device)[0]
        for at, kind in enumerate(KINDS):
            assert error_of(cross[at], case[kind]) < tolerance, f"{dtype} {kind}"
            off = ~np.eye(len(own[at]), dtype=bool)
            true = case[f"{kind}_self"]
            assert error_of(own[at][off], true[off]) < tolerance, f"{dtype} {kind}"
            assert error_of(own[at], true) < max(tolerance, DIAGONAL_TOLERANCE), f"{dtype} {kind}"


@pytest.mark.parametrize("seed", range(104))
def test_cuda_random_architecture(seed: int, device: HostDevice) -> None:
    compare(random_case(3000 + seed), device)


def _spaces() -> list[str]:
    from nas_cntk.search.spaces import shipped_spaces

    return list(shipped_spaces())


class Draw:
    """A trial that draws at random."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def suggest_int(self, name: str, low: int, high: int, **_: object) -> int:
        return int(self.rng.integers(low, high + 1))

    def suggest_categorical(self, name: str, choices: list[object]) -> object:
        return choices[int(self.rng.integers(len(choices)))]

    def suggest_float(self, name: str, low: float, high: float, **_: object) -> float:
        return float(self.rng.uniform(low, high))


@pytest.mark.parametrize("name", _spaces())
def test_cuda_space(name: str, device: HostDevice) -> None:
    from nas_cntk.errors import IllegalArchitecture
    from nas_cntk.search.spaces import load_space

    space, shape, found = load_space(name), (8, 8, 3), 0
    for seed in range(40):
        try:
            arch = space.propose(Draw(seed), shape)
            arch.check(shape)
        except IllegalArchitecture:
            continue
        x = random_images(seed, 3, shape)
        compare(Case(f"{name} {seed}: {arch.to_json()}", arch, x[:1], x[1:]), device)
        found += 1
        if found == 5:
            return
    raise AssertionError("no five legal proposals among forty")


def test_cuda_family(device: HostDevice) -> None:
    """Depths and heads in one pass, more of them than one program holds, equal the same alone."""
    archs = [plain(depth, head) for depth in range(1, 10) for head in ("flatten", "local", "global")]
    archs += [random_architecture(6100 + i, (4, 3, 2))[1] for i in range(45)]
    x1, x2 = random_images(1, 2, (4, 3, 2)), random_images(2, 3, (4, 3, 2))
    together = kernels(archs, x1, x2, "float64", device)
    for arch, got in zip(archs, together, strict=True):
        alone = kernel(arch, x1, x2, kind="both", backend="reference", dtype="float64")
        for a, b in zip(got, alone, strict=True):
            assert error_of(a, b) < 1e-9, arch.to_json()


def test_cuda_flatten_in_a_family_takes_one_plane_through_the_deep_layers(device: HostDevice) -> None:
    plan = cuda_plan([plain(2, "global"), plain(9, "flatten")], (8, 8, 1), 4, True, device.limits)
    (step,) = plan.main[0].steps
    lengths = step.launches[0].planes[:, 2]  # type: ignore[union-attr]
    assert len(lengths) == 64 and lengths[0] > 10 and (lengths[1:] <= 5).all()


@pytest.mark.parametrize("arch", [plain(3, "global"), residual()], ids=["plain", "residual"])
def test_cuda_nngp_alone_is_the_nngp_of_both(arch: Architecture, device: HostDevice) -> None:
    x = random_images(0, 3, (6, 5, 2))
    alone = kernels([arch], x, None, "float32", device, tangents=False)[0][0]
    np.testing.assert_array_equal(alone, kernels([arch], x, None, "float32", device)[0][0])


def cases() -> list[Case]:
    x = random_images(3, 5, (8, 6, 3))
    return [
        Case("global", plain(3, "global", 5), x[:2], x[2:]),
        Case("residual", residual(), x[:2], x[2:]),
        Case("local", plain(2, "local", 3, 3), x[:2], x[2:]),
        Case("flatten", plain(3, "flatten"), x[:2], x[2:]),
    ]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_cuda_no_bit_depends_on_order_or_memory(case: Case) -> None:
    """Threads run backwards (a race would show), sheets read from global memory, and pairs one by one."""
    forwards = kernels([case.arch], case.x1, case.x2, "float32", HostDevice(), capacity=100)[0]
    for device, capacity in ((HostDevice(backwards=True), 100), (HostDevice(), 1)):
        got = kernels([case.arch], case.x1, case.x2, "float32", device, capacity=capacity)[0]
        np.testing.assert_array_equal(got, forwards)
    # Blocks of another shape add the planes' sums, which are float64, in another order.
    unstaged = kernels([case.arch], case.x1, case.x2, "float32", HostDevice(block_shared=LITTLE_SHARED))[0]
    np.testing.assert_allclose(unstaged, forwards, rtol=1e-14)
    one = kernels([case.arch], case.x1[1:], case.x2[2:], "float32", HostDevice())[0]
    np.testing.assert_array_equal(np.array(one)[:, 0, 0], np.array(forwards)[:, 1, 2])


def test_cuda_staged_and_unstaged_are_both_taken() -> None:
    kinds = []
    for shared in (LITTLE_SHARED, 227 * 1024):
        device = HostDevice(block_shared=shared)
        case = cases()[0]
        kernels([case.arch], case.x1, case.x2, "float32", device)
        kinds.append({name for _, name, *_ in device.launched if name.startswith("stretch")})
    assert kinds == [{"stretch", "stretch_itself"}, {"stretch_staged", "stretch_itself"}]


def test_cuda_every_kernel_runs() -> None:
    device = HostDevice()
    x = random_images(0, 2, (6, 6, 1))
    seen = set()
    for seed in (*range(60), 3001, 3007):
        case = random_case(seed)
        kernels([case.arch], case.x1[:1], case.x2[:1], "float32", device)
    # Maps that no warp can keep: single fields only.
    lonely = HostDevice(tiles=lambda shape: None)
    for arch in (plain(2, "global"), residual()):
        got = kernels([arch], x, None, "float64", lonely)[0]
        true = kernel(arch, x, kind="both", backend="reference", dtype="float64")
        for a, b in zip(got, true, strict=True):
            assert error_of(a, b) < 1e-9
    seen = {name for _, name, *_ in (*device.launched, *lonely.launched)}
    assert seen == {
        "place_channels", "arrange", "stretch", "stretch_itself", "stretch_staged", "field_input", "field_linear",
        "field_relu", "field_aligned", "field_term", "field_variance", "field_head",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape, arch",
    [
        ((32, 32, 3), plain(3, "local", 3, 2)),
        ((8, 8, 3), residual()),
    ],
    ids=["32x32", "8x8"],
)
def test_cuda_as_compiled_for_a_gpu(shape: tuple[int, int, int], arch: Architecture) -> None:
    """The tile of a GPU's registers and all sizes constant, as NVRTC is asked for."""
    device = HostDevice(tiles=thread_tile, exact_shapes=True, flags=("-O0",))
    x = random_images(1, 3, shape)
    got = kernels([arch], x[:1], x[1:], "float32", device)[0]
    true = kernel(arch, x[:1], x[1:], kind="both", backend="cpu", dtype="float64")
    for a, b in zip(got, true, strict=True):
        assert error_of(a, b) < TOLERANCES["float32"]


@pytest.mark.parametrize("scale", [1e-25, 1e-12, 1e12])
def test_cuda_dim_and_bright_images(scale: float, device: HostDevice) -> None:
    arch, x = residual(), random_images(0, 3, (6, 5, 2))
    true = kernel(arch, x, kind="both", backend="reference", dtype="float64")
    for a, b in zip(kernels([arch], scale * x, x / scale, "float32", device)[0], true, strict=True):
        assert error_of(a, b) < TOLERANCES["float32"]


def test_cuda_black_images_have_kernel_zero(device: HostDevice) -> None:
    x = random_images(0, 3, (6, 5, 2))
    x[1] = 0
    for dtype in TOLERANCES:
        for k in kernels([residual()], x, None, dtype, device)[0]:
            assert (k[1] == 0).all() and (k[:, 1] == 0).all() and k[0, 0] > 0
        for k in kernels([residual()], x[1:2], None, dtype, device)[0]:
            assert (k == 0).all()


def test_cuda_a_wrong_kernel_fails(device: HostDevice) -> None:
    """The comparison has power: the kernel of another architecture is far off."""
    x = random_images(0, 3, (6, 5, 2))
    got = kernels([plain(2, "global")], x, None, "float64", device)[0][1]
    assert error_of(got, kernel(plain(2, "global", 5), x, backend="reference", dtype="float64")) > 1e-2


@pytest.mark.parametrize("shape", [(32, 32), (28, 28), (24, 24), (16, 16), (8, 8), (5, 4), (1, 1), (1, 31), (17, 3)])
def test_cuda_tiles_cover_the_map(shape: Shape) -> None:
    tile = thread_tile(shape)
    assert tile is not None
    assert tile.threads(shape) <= 32
    assert tile.height * -(-shape[0] // tile.height) >= shape[0]
    used = shape[0] * shape[1] * (32 // tile.threads(shape)) / (32 * tile.height * tile.width)
    assert used > 0.8 or shape[0] * shape[1] < 64


def test_cuda_maps_too_large_for_a_warp_have_no_tile() -> None:
    assert thread_tile((64, 64)) is None


@pytest.mark.parametrize("shape", [(32, 32), (16, 16), (8, 8)])
def test_cuda_right_sheets_meet_every_bank_once(shape: Shape) -> None:
    """Whatever the offset, the 32 lanes of a warp read 32 banks: within a plane, as far as groups go."""
    tile = thread_tile(shape)
    assert tile is not None
    across, threads, pitch = -(-shape[1] // tile.width), tile.threads(shape), tile.pitch(shape)
    for di in range(shape[0]):
        for dj in range(shape[1]):
            banks = set()
            for lane in range(threads):
                i, j = lane // across * tile.height, lane % across * tile.width
                column = (j + dj) % shape[1]
                at = (i + di) % shape[0] * pitch + column % tile.width * across + column // tile.width
                banks.add(at % 32)
            assert len(banks) == threads, (di, dj)


SANITIZED = """
import sys; sys.path[:0] = {paths!r}
from host_device import HostDevice, SANITIZE
from test_host_build import compare, cases, kernels
from random_architectures import random_case
device = HostDevice(flags=SANITIZE)
for seed in range(7000, 7010): compare(random_case(seed), device, ("float32",))
for case in cases(): compare(case, device, ("float32",))
print("clean", flush=True)
put = device.put
device.put = lambda array: put(array[:-1] if array.dtype == "f8" and array.size > 9 else array)
for case in cases(): kernels([case.arch], case.x1, case.x2, "float32", device)
print("unseen")
"""


@pytest.mark.slow
def test_cuda_sanitizers_find_nothing() -> None:
    """Random architectures with the address and undefined-behaviour sanitizers; then a defect, which they find."""
    runtime = sanitizer_runtime()
    if not runtime:
        pytest.skip("this compiler has no sanitizers")
    here = Path(__file__).resolve().parent
    paths = [str(here), str(here.parents[1]), str(here.parents[2])]
    done = subprocess.run(
        [sys.executable, "-c", SANITIZED.format(paths=paths)],
        capture_output=True,
        text=True,
        env={**os.environ, "LD_PRELOAD": runtime, "ASAN_OPTIONS": "detect_leaks=0"},
    )
    out = done.stdout + done.stderr
    assert "clean" in out, out[-3000:]
    assert "AddressSanitizer: heap-buffer-overflow" in out and "unseen" not in out, out[-3000:]


def sanitizer_runtime() -> str:
    """Return the libraries that a process must begin with to load sanitized ones; empty if there are none."""
    compiler = shutil.which(os.environ.get("CXX", "g++")) or "g++"
    found = []
    for name in ("libasan.so", "libubsan.so"):
        asked = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True)
        found.append(asked.stdout.strip())
    return " ".join(found) if all(os.path.isabs(name) for name in found) else ""
