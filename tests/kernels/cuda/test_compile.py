"""gram.cu as NVRTC and nvcc read it: what CuPy does on first use, without a GPU."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nas_cntk.kernels.backends.cuda import options, source
from nas_cntk.kernels.cuda_layout import SLOTS, thread_tile
from nas_cntk.kernels.cuda_run import STRETCHES, Build

FIELDS = (
    "field_input",
    "field_linear",
    "field_relu",
    "field_aligned",
    "field_term",
    "field_variance",
    "field_head",
    "place_channels",
    "arrange",
)


def stretch(real: str, shape: tuple[int, int], mode: int, tangents: bool = True, slots: int = 0) -> Build:
    return Build(real, tangents, thread_tile(shape), shape, slots, mode)


BUILDS = {
    "fields": Build("float", True),
    "fields float64": Build("double", False),
    "32x32": stretch("float", (32, 32), 1),
    "32x32 flatten": stretch("float", (32, 32), 0),
    "32x32 itself": stretch("float", (32, 32), 2, False),
    "16x16 residual": stretch("float", (16, 16), 1, True, SLOTS[1]),
    "7x5 float64": stretch("double", (7, 5), 1),
}
REGISTERS = 128  # of a thread: 16 warps, or 512 threads, fill the 65,536 of a multiprocessor


class Nvrtc:
    """The library that CuPy compiles with."""

    def __init__(self, path: Path) -> None:
        for builtins in path.parent.glob("libnvrtc-builtins.so*"):  # NVRTC looks for it by name alone
            ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
        self.library = ctypes.CDLL(str(path))

    def compile(self, text: str, arguments: list[str]) -> tuple[int, str, bytes]:
        """Return the result code, the log and the machine code."""
        program = ctypes.c_void_p()
        self._call("CreateProgram", ctypes.byref(program), text.encode(), b"gram.cu", 0, None, None)
        strings = (ctypes.c_char_p * len(arguments))(*(one.encode() for one in arguments))
        rc = self.library.nvrtcCompileProgram(program, len(arguments), strings)
        log, code = self._text(program, "ProgramLog"), b"" if rc else self._text(program, "CUBIN")
        self._call("DestroyProgram", ctypes.byref(program))
        return rc, log.decode().strip("\0\n "), code

    def _call(self, name: str, *arguments: object) -> None:
        rc = getattr(self.library, f"nvrtc{name}")(*arguments)
        assert rc == 0, (name, rc)

    def _text(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"Get{what}Size", program, ctypes.byref(size))
        room = ctypes.create_string_buffer(size.value)
        self._call(f"Get{what}", program, room)
        return room.raw


@pytest.fixture(scope="module")
def nvrtc() -> Nvrtc:
    """NVRTC from PyPI."""
    spec = importlib.util.find_spec("nvidia")
    found = [
        path
        for folder in (spec.submodule_search_locations or [] if spec else [])
        for path in Path(folder).glob("*/lib/libnvrtc.so.*")
        if "alt" not in path.name
    ]
    if not found:
        pytest.skip("nvidia-cuda-nvrtc is not installed")
    return Nvrtc(found[0])


@pytest.mark.parametrize("name, arch", [*((name, "sm_90") for name in BUILDS), ("32x32", "sm_80")])
def test_cuda_nvrtc_compiles(name: str, arch: str, nvrtc: Nvrtc) -> None:
    """With the options that the backend gives, and those that CuPy adds; without a word of warning."""
    rc, log, code = nvrtc.compile(source(), [*options(BUILDS[name]), "-ftz=true", f"-arch={arch}"])
    assert rc == 0 and not log, log
    wanted = (STRETCHES[BUILDS[name].mode],) if BUILDS[name].tile else FIELDS
    kernels = {found.decode() for found in re.findall(rb"\.text\.(\w+)", code)}
    assert kernels == set(wanted)


def test_cuda_nvrtc_errors_point_into_the_file(nvrtc: Nvrtc, repository: Path) -> None:
    native = repository / "nas_cntk/kernels/native"
    for name, line in (("gram.cu", "op_input,"), ("arc_cosine.h", "using C = ArcCosine<Real>;")):
        text = source().replace(line, line + " oops oops", 1)
        rc, log, _ = nvrtc.compile(text, [*options(BUILDS["32x32"]), "-arch=sm_90"])
        number = next(k for k, one in enumerate((native / name).read_text().splitlines(), 1) if line in one)
        assert rc != 0 and f"{name}({number})" in log, log


@pytest.mark.slow
@pytest.mark.parametrize("name, arch", [("32x32", "80"), ("32x32", "90"), ("16x16 residual", "90")])
def test_cuda_nvcc_registers(name: str, arch: str, tmp_path: Path) -> None:
    """Sixteen warps a multiprocessor, and next to nothing in local memory but the planes that are kept aside."""
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not installed")
    build = BUILDS[name]
    (tmp_path / "gram.cu").write_text(source())
    command = ["nvcc", "-cubin", f"-gencode=arch=compute_{arch},code=sm_{arch}", "-Xptxas", "-v"]
    command += [*options(build), "-o", str(tmp_path / "gram.cubin"), str(tmp_path / "gram.cu")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert build.tile is not None
    kept = build.slots * 2 * 4 * build.tile.height * build.tile.width
    report = done.stderr.split(f"entry function '{STRETCHES[build.mode]}'", 1)[1]
    found = re.search(r"(\d+) bytes stack frame.*?Used (\d+) registers", report, re.DOTALL)
    assert found is not None, report
    assert int(found[2]) <= REGISTERS
    assert int(found[1]) <= kept + 160, report[:400]
