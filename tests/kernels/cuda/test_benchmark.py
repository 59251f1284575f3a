"""benchmarks/gpu.py, all of it but the speed: with a stand-in for CuPy and images of 6x6."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_architectures import random_images

from nas_cntk import kernel


@pytest.fixture(scope="module")
def gpu(repository: Path) -> Any:
    """The script as a module."""
    folder = repository / "benchmarks"
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location("benchmark_gpu", folder / "gpu.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["benchmark_gpu"] = module
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("benchmark_gpu", None)


@pytest.mark.slow
def test_cuda_benchmark_runs(gpu: Any, fake_cupy: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert gpu.main(["--tiny", "--full", "--results", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    for word in (
        "Fake GPU",
        "correctness",
        "global pooling 6x6",
        "a net of space",
        "beside one pair a launch",
        "of bound",
    ):
        assert word in out
    assert "a candidate (6x6" in out and "search --backend cuda" in out and "flatten 6x6, depth 21, 40 + 10" in out
    assert not list(tmp_path.iterdir())  # tiny images are no result


def test_cuda_benchmark_stops_at_a_wrong_kernel(gpu: Any, fake_cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "error_of", lambda got, true: float("nan"))
    with pytest.raises(SystemExit, match="no speed of a wrong result is shown"):
        gpu.main(["--tiny"])


def test_cuda_benchmark_without_a_gpu_is_one_line(
    gpu: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    gpu.cuda._cupy.cache_clear()
    assert gpu.main([]) == 1
    assert capsys.readouterr().err.startswith("error: backend cuda needs CuPy")


def test_cuda_benchmark_baseline_says_the_same(gpu: Any, fake_cupy: Any) -> None:
    x = random_images(1, 4, (5, 5, 3)).astype(np.float32)
    scheme = gpu.PaperScheme(gpu.cuda.CupyDevice(0), 5, 3)
    true = kernel(gpu.chain(3, "global"), x[:2], x[2:], backend="reference")
    assert gpu.error_of(scheme.run(x[:2], x[2:]), true) < 1e-3
