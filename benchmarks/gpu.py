"""Everything about the CUDA backend that needs a GPU, in one command.

    python benchmarks/gpu.py           build, checks, compute-sanitizer, the table, a search: ten minutes or so
    python benchmarks/gpu.py --full    and the kernel and solve of 50,000 + 10,000 images (24 GB of memory)
    python benchmarks/gpu.py --devices 0,1

Speeds are shown only after the kernels of the same call were found right: against the cpu backend in float64, and the
golden files where they are at hand. An entry-layer is one covariance entry taken through one conv and relu, covariance
and tangent together. The bound is what the chip's float32 lanes can issue at its greatest clock, over the instructions
of an entry-layer, counted in the disassembly (docs/cuda.md). Results go to benchmarks/results/, named after the GPU.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measure import images
from works import Work, chain, of_spaces

import nas_cntk
from nas_cntk import Architecture
from nas_cntk.errors import NasCntkError
from nas_cntk.kernels import cost
from nas_cntk.kernels.backends import cuda
from nas_cntk.kernels.gram import gram
from nas_cntk.solver import solve

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
INSTRUCTIONS = 33.8  # of one entry-layer at 32x32: docs/cuda.md
LANES = {(8, 0): 64}  # float32 lanes of a multiprocessor by compute capability; 128 of every other since 8.6
TOLERANCE = 5e-5  # of a float32 kernel: greatest error over greatest entry
PEER_ENTRIES = {
    20: 370.0,
    2: 4100.0,
}  # known entries/s by convs: neural-tangents on a V100, the paper's program, an H100
GOAL_ENTRIES = {20: 21_000.0, 2: 200_000.0}
FACTOR = 50  # over the paper's scheme, in the same run

WORKS = (
    Work("global pooling 32x32, depth 21", 32, 20, "global"),
    Work("global pooling 32x32, depth 11", 32, 10, "global"),
    Work("global pooling 32x32, depth 3", 32, 2, "global"),
    Work("global pooling 16x16, depth 11", 16, 10, "global"),
    Work("global pooling 8x8, depth 11", 8, 10, "global"),
    Work("local pooling k = 9, 32x32, depth 11", 32, 10, "local", pool=9),
    Work("flatten 32x32, depth 21", 32, 20, "flatten"),
)
TINY = (Work("global pooling 6x6, depth 3", 6, 2, "global"), Work("flatten 6x6, depth 4", 6, 3, "flatten"))


@dataclass(frozen=True, slots=True)
class Options:
    devices: tuple[int, ...]
    seconds: float  # of one run
    tiny: bool
    say: Callable[[str], None]

    @property
    def works(self) -> tuple[Work, ...]:
        return TINY if self.tiny else WORKS

    @property
    def size(self) -> int:
        return 6 if self.tiny else 32

    def kernel(self, arch: Architecture, x1: Any, x2: Any = None, **more: Any) -> Any:
        """The kernel on the chosen GPUs."""
        return nas_cntk.kernel(arch, x1, x2, backend="cuda", devices=self.devices, **more)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", default="0", help="numbers of GPUs, such as 0,1 (default 0)")
    parser.add_argument("--full", action="store_true", help="with the kernel and solve of 50,000 + 10,000 images")
    parser.add_argument("--quick", action="store_true", help="short runs; nothing is stored")
    parser.add_argument("--tiny", action="store_true", help="images of 6x6, to try this script; nothing is stored")
    parser.add_argument("--sanitized", action="store_true", help="only the small case, for compute-sanitizer")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder for the results")
    given = parser.parse_args(arguments)
    text: list[str] = []

    def say(line: str) -> None:
        text.append(line)
        print(line, flush=True)

    try:
        devices = tuple(cuda.check([int(one) for one in given.devices.split(",")]))
        if given.sanitized:
            small_case(Options(devices, 0.1, True, say))
            return 0
        options = Options(devices, 0.3 if given.quick or given.tiny else 2.0, given.tiny, say)
        about = description(devices)
        now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        say(f"{', '.join(gpu['name'] for gpu in about['gpus'])}; CuPy {about['cupy']}, driver {about['driver']}; {now}")
        result: dict[str, Any] = {"machine": about, "date": now.isoformat(), "version": nas_cntk.__version__}
        result["checks"] = checks(options)
        result["sanitizer"] = sanitizer(options)
        result["works"] = table(options, about["bound"])
        result["spaces"] = spaces(options, about["bound"])
        result["paper_scheme"] = baseline(options)
        result["candidate"] = candidate(options)
        result["search"] = search(options)
        if given.full:
            result["full"] = full(options)
    except NasCntkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not (given.quick or given.tiny):
        stem = (
            f"{now:%Y-%m-%d}-{re.sub('[^a-z0-9]+', '-', about['gpus'][0]['name'].lower()).strip('-')}-x{len(devices)}"
        )
        given.results.mkdir(parents=True, exist_ok=True)
        (given.results / f"{stem}.json").write_text(json.dumps(result, indent=2) + "\n")
        (given.results / f"{stem}.md").write_text("```\n" + "\n".join(text) + "\n```\n")
        print(f"\nstored {given.results / stem}.json and .md", file=sys.stderr)
    return 0


def description(devices: Sequence[int]) -> dict[str, Any]:
    """Return what there is, and the bound of all chosen GPUs in entry-layers/s."""
    found = cuda.found()
    gpus, bound = [], 0.0
    for number in devices:
        gpu = found.gpus[number]
        attributes = cuda.CupyDevice(number).device.attributes
        capability = tuple(int(part) for part in gpu.compute_capability.split("."))
        lanes = attributes["MultiProcessorCount"] * LANES.get(capability, 128)
        own = lanes * attributes["ClockRate"] * 1e3 / INSTRUCTIONS
        bound += own
        gpus.append({"name": gpu.name, "compute_capability": gpu.compute_capability, "bound": own})
    return {"gpus": gpus, "bound": bound, "cupy": found.cupy, "driver": found.driver, "runtime": found.runtime}


def error_of(got: Any, true: Any) -> float:
    """Return the greatest error over the greatest entry."""
    return float(np.abs(np.asarray(got) - true).max() / np.abs(true).max())


def checks(options: Options) -> list[dict[str, Any]]:
    """Every work and space against the cpu backend, golden files against their numbers; the first kernel's build."""
    options.say("\ncorrectness: greatest error over greatest entry, against backend cpu in float64")
    rows: list[dict[str, Any]] = []

    def check(name: str, error: float, tolerance: float, seconds: float) -> None:
        options.say(f"  {name:44} {error:8.1e}   ({seconds:.1f} s, with the compiler where it is new)")
        rows.append({"name": name, "error": error, "seconds": seconds})
        if not error <= tolerance:
            raise SystemExit(f"error: {name} is {error:.1e} off; no speed of a wrong result is shown")

    cases = [(work.name, work.architecture, work.size) for work in options.works]
    cases += [(f"space {name}", arch, 8) for name, arch in of_spaces((8, 8, 3))]
    for name, arch, size in cases:
        x1, x2 = images(1, size, 1), images(2, size, 2)
        started = time.perf_counter()
        got = options.kernel(arch, x1, x2)
        took = time.perf_counter() - started
        check(name, error_of(got, nas_cntk.kernel(arch, x1, x2, backend="cpu", dtype="float64")), TOLERANCE, took)
    folder = Path(os.environ.get("NAS_CNTK_SHARED", HERE.parents[1] / "shared")) / "golden"
    for path in sorted(folder.glob("*.npz"))[: 2 if options.tiny else None]:
        with np.load(path, allow_pickle=False) as golden:
            arch = Architecture.from_json(str(golden["architecture"]))
            for dtype, tolerance in (("float32", TOLERANCE), ("float64", 1e-9)):
                started = time.perf_counter()
                got = options.kernel(arch, golden["x1"], golden["x2"], dtype=dtype)
                took = time.perf_counter() - started
                check(f"{path.stem} {dtype}", error_of(got, golden["ntk"]), tolerance, took)
    if not folder.is_dir():
        options.say(f"  no golden kernels at {folder} (NAS_CNTK_SHARED names another folder)")
    started = time.perf_counter()
    check("solve, against that of the cpu", solve_error(options), 1e-6, time.perf_counter() - started)
    return rows


def solve_error(options: Options) -> float:
    """Solve a regression on the GPU and on the CPU; return the greatest difference over the greatest coefficient."""
    n = 60 if options.tiny else 4000
    matrix = gram(chain(3, "flatten"), images(n, options.size, 8), backend="cuda", devices=options.devices)
    y = np.arange(n) % 10
    here, there = solve(np.asarray(matrix), y, 10), solve(matrix, y, 10)
    if not there.method.endswith("on a GPU"):
        raise SystemExit(f"error: a matrix of {n} images was not solved on the GPU")
    return error_of(there.alpha, here.alpha)


def small_case(options: Options) -> None:
    """What runs under compute-sanitizer: every kernel, few pairs."""
    for _, arch in of_spaces((8, 8, 3)):
        options.kernel(arch, images(2, 8, 1), images(2, 8, 2))
    options.kernel(chain(2, "global"), images(3, 8, 3))
    options.say("small case done")


def sanitizer(options: Options) -> dict[str, str]:
    """Run compute-sanitizer's memcheck and racecheck on the small case, where it is installed."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        options.say("\ncompute-sanitizer is not installed: left out")
        return {}
    found = {}
    for check in ("memcheck", "racecheck"):
        command = [tool, "--tool", check, "--error-exitcode", "9", sys.executable, __file__, "--sanitized"]
        done = subprocess.run(command, capture_output=True, text=True)
        found[check] = "clean" if done.returncode == 0 else (done.stdout + done.stderr)[-2000:]
        options.say(f"\ncompute-sanitizer {check}: {found[check]}")
        if done.returncode:
            raise SystemExit(f"error: compute-sanitizer {check} found something")
    return found


def pairs_per_second(options: Options, arch: Architecture, size: int) -> tuple[float, int]:
    """Return pairs a second, the median of three runs of blocks as large as the time allows, and the block's side."""
    side = 8
    options.kernel(arch, images(side, size, 1), images(side, size, 2))  # what is paid once
    while True:
        x1, x2 = images(side, size, 1), images(side, size, 2)
        started = time.perf_counter()
        options.kernel(arch, x1, x2)
        took = time.perf_counter() - started
        if took > 0.5 * options.seconds or side >= 8192:
            break
        side = min(8192, max(side + 8, int(side * min(4.0, (options.seconds / max(took, 1e-4)) ** 0.5))))
    times = []
    for _ in range(3):
        started = time.perf_counter()
        options.kernel(arch, x1, x2)
        times.append(time.perf_counter() - started)
    return side * side / statistics.median(times), side


def table(options: Options, bound: float) -> list[dict[str, Any]]:
    """Chains: kernel entries (pairs) a second, entry-layers a second and the share of the bound."""
    options.say(f"\n{'work':40} {'pairs/s':>10} {'entry-layers/s':>15} {'of bound':>8}   known before, goal (pairs/s)")
    rows = []
    for work in options.works:
        rate, side = pairs_per_second(options, work.architecture, work.size)
        speed = rate * work.entry_layers
        goal = ""
        if work.head == "global" and work.size == 32 and work.convs in GOAL_ENTRIES:
            goal = f"{PEER_ENTRIES[work.convs]:,.0f}, {GOAL_ENTRIES[work.convs]:,.0f}"
        options.say(f"{work.name:40} {rate:10,.0f} {speed:15.2e} {speed / bound:8.2f}   {goal}")
        rows.append({"name": work.name, "pairs_per_second": rate, "entry_layers_per_second": speed, "side": side})
    return rows


def spaces(options: Options, bound: float) -> list[dict[str, Any]]:
    """One net of each shipped space."""
    size = options.size
    options.say(f"\n{'a net of space':40} {'pairs/s':>10} {'entry-layers/s':>15} {'of bound':>8}")
    rows = []
    for name, arch in of_spaces((size, size, 3)):
        rate, side = pairs_per_second(options, arch, size)
        speed = rate * cost.entry_layers(arch, (size, size, 3), 1)
        options.say(f"{name + f' {size}x{size}':40} {rate:10,.0f} {speed:15.2e} {speed / bound:8.2f}")
        rows.append({"name": name, "pairs_per_second": rate, "entry_layers_per_second": speed, "side": side})
    return rows


class PaperScheme:
    """One pair of images a launch, S and T through main memory between layers: benchmarks/paper_scheme.cu."""

    def __init__(self, device: cuda.CupyDevice, size: int, convs: int) -> None:
        with device.device:
            self.module = device.cupy.RawModule(code=(HERE / "paper_scheme.cu").read_text(), options=("-std=c++17",))
        self.device, self.size, self.convs = device, size, convs
        self.area = size * size
        self.s, self.t, self.s_out, self.t_out = (device.empty(self.area**2, np.float32) for _ in range(4))

    def run(self, x1: Any, x2: Any) -> Any:
        """Return the kernel of float32 images, shape (n1, n2): global pooling, all layers trained."""
        n1, n2, channels = len(x1), len(x2), x1.shape[3]
        size, number = np.int32(self.size), np.int32
        flat = [self.device.put(x.reshape(len(x), -1)) for x in (x1, x2)]
        maps = [self.device.put(self._variances(x)) for x in (x1, x2)]
        out = self.device.zeros((n1, n2, 2), np.float64)
        for a in range(n1):
            for b in range(n2):
                self._launch("paper_input", flat[0][a], flat[1][b], self.s, self.t, size, size, number(channels))
                for layer in range(self.convs):
                    self._launch("paper_conv", self.s, self.t, self.s_out, self.t_out, size, size, number(1), number(1))
                    self.s, self.t, self.s_out, self.t_out = self.s_out, self.t_out, self.s, self.t
                    v1, v2 = maps[0][a, layer], maps[1][b, layer]
                    self._launch("paper_relu", self.s, self.t, v1, v2, number(self.area))
                self._launch("paper_head", self.s, self.t, out[a, b], number(self.area**2), grid=1)
        sums = self.device.get(out)
        return sums[..., 0] + sums[..., 1]

    def _variances(self, x: Any) -> Any:
        # Of every conv's output: a relu keeps the variance, a conv takes its mean over the window.
        v = (x.astype(np.float64) ** 2).mean(axis=3)
        found = []
        for _ in range(self.convs):
            wide = np.pad(v, ((0, 0), (1, 1), (1, 1)))
            shifts = [wide[:, a : a + self.size, b : b + self.size] for a in range(3) for b in range(3)]
            v = np.sum(shifts, axis=0) / 9
            found.append(v.reshape(len(x), -1))
        return np.stack(found, axis=1).astype(np.float32)

    def _launch(self, kernel: str, *arguments: Any, grid: int | None = None) -> None:
        with self.device.device, self.device.stream:
            blocks = -(-(self.area**2) // 256) if grid is None else grid
            self.module.get_function(kernel)((blocks,), (256,), arguments)


def baseline(options: Options) -> list[dict[str, Any]]:
    """The paper's scheme beside ours, after a check that both say the same."""
    options.say(
        f"\n{'beside one pair a launch, through memory':40} {'pairs/s':>10} {'ours':>10} {'factor':>7} {'goal':>5}"
    )
    rows = []
    for work in options.works:
        if work.head != "global" or work.size != options.size:
            continue
        scheme = PaperScheme(cuda.CupyDevice(options.devices[0]), work.size, work.convs)
        x1, x2 = images(2, work.size, 1), images(3, work.size, 2)
        error = error_of(scheme.run(x1, x2), options.kernel(work.architecture, x1, x2, dtype="float64"))
        if not error < 1e-3:  # its arccosine loses half the digits near correlation 1
            raise SystemExit(f"error: the baseline is {error:.1e} off; no comparison with a wrong result is shown")
        n = 2 if options.tiny else 8
        x1, x2 = images(n, work.size, 1), images(n, work.size, 2)
        times = []
        for _ in range(3):
            started = time.perf_counter()
            scheme.run(x1, x2)
            times.append(time.perf_counter() - started)
        rate = n * n / statistics.median(times)
        ours, _ = pairs_per_second(options, work.architecture, work.size)
        options.say(f"{work.name:40} {rate:10,.1f} {ours:10,.0f} {ours / rate:7.1f} {FACTOR:5}")
        rows.append({"name": work.name, "paper_scheme": rate, "ours": ours, "error": error})
    return rows


def candidate(options: Options) -> dict[str, float]:
    """A candidate: 10 convs, global pooling, 2,000 + 2,000 images; its time from a part of the pairs."""
    n = 12 if options.tiny else 400
    arch, size = chain(10, "global"), options.size
    x = images(n, size, 5)
    options.kernel(arch, x[:4])
    started = time.perf_counter()
    options.kernel(arch, x)
    took = time.perf_counter() - started
    pairs = n * (n + 1) / 2
    predicted = took / pairs * (2000 * 2001 / 2 + 2000 * 2000)
    options.say(
        f"\na candidate ({size}x{size}, global pooling, 10 convs, 2,000 + 2,000 images): {predicted:,.0f} s,"
        f" from {n} images in {took:.1f} s; goal 180 s"
    )
    return {"seconds": predicted, "images": n, "measured_seconds": took}


def search(options: Options) -> dict[str, Any]:
    """A short search, as a user calls it."""
    trials = 1 if options.tiny else 5
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "nas_cntk", "search", "--db", f"{folder}/nas.db", "--backend", "cuda"]
        started = time.perf_counter()
        done = subprocess.run([*command, "--trials", str(trials)], capture_output=True, text=True)
        took = time.perf_counter() - started
    last = (done.stdout.strip() or done.stderr.strip()).splitlines()[-1:]
    options.say(
        f"\nsearch --backend cuda --trials {trials}: exit code {done.returncode}, {took:.1f} s; {' '.join(last)}"
    )
    return {"exit_code": done.returncode, "seconds": took}


def full(options: Options) -> dict[str, Any]:
    """Flatten, depth 21, 50,000 + 10,000 images: kernel and solve."""
    n, m, size = (40, 10, 6) if options.tiny else (50_000, 10_000, 32)
    arch = chain(20, "flatten")
    x, y = images(n, size, 6), np.arange(n) % 10
    started = time.perf_counter()
    matrix = gram(arch, x, backend="cuda", devices=options.devices)
    cross = matrix.against(images(m, size, 7))
    kernel_seconds = time.perf_counter() - started
    solution = solve(matrix, y, 10, 0.0)
    predictions = np.concatenate([rows.astype(np.float64) @ solution.alpha for _, rows in cross.row_blocks(1000)])
    took = time.perf_counter() - started
    assert predictions.shape == (m, 10)
    options.say(
        f"\nflatten {size}x{size}, depth 21, {n:,} + {m:,} images: kernel {kernel_seconds:.0f} s,"
        f" with solve ({solution.method}) and prediction {took:.0f} s; goal 300 s"
    )
    return {"kernel_seconds": kernel_seconds, "seconds": took, "method": solution.method}


if __name__ == "__main__":
    sys.exit(main())
