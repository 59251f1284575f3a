"""Every check with something broken on purpose: state, words and remedy."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nas_cntk.doctor import examination, gpu, machine, software, speed, storage
from nas_cntk.doctor.check import OK, PROBLEM, WARNING, Check, guarded, is_ok, of_error, size
from nas_cntk.errors import BackendUnavailable, KernelError, RecordsError
from nas_cntk.kernels import exact
from nas_cntk.kernels.backends import cuda
from nas_cntk.records import leases
from nas_cntk.records.leases import Lease, Owner
from nas_cntk.records.migrations import MIGRATIONS, open_records
from nas_cntk.records.studies import insert_study
from nas_cntk.search.storage import open_storage


def nvidia_smi(folder: Path, script: str) -> tuple[str, ...]:
    """A program that plays nvidia-smi."""
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return (str(path), *gpu.QUERY[1:])


def test_errors_say_what_and_then_what_to_do() -> None:
    assert of_error("x", RecordsError("it is\n locked; close it; try again")) == Check(
        "x", PROBLEM, "it is locked", "close it; try again"
    )
    broken = guarded("x", lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    assert broken.state == PROBLEM and "ZeroDivisionError" in broken.found and broken.remedy
    assert is_ok([Check("a", OK, ""), Check("b", WARNING, "")]) and not is_ok([broken])
    assert [size(n) for n in (0, 2048, 3 << 20, 5 << 30)] == ["0 KiB", "2 KiB", "3 MiB", "5.0 GiB"]


# Software


def test_requirements_are_compared_with_what_is_installed() -> None:
    assert software.libraries(["numpy>=1", 'torch>=99; extra == "train"']).state == OK
    old = software.libraries(["numpy<1", "rich>=1"])
    assert old.state == WARNING and f"numpy {np.__version__} (needs <1)" in old.found and "rich" not in old.found
    missing = software.libraries(["no-such-package>=1"])
    assert missing.state == PROBLEM and missing.remedy == "pip install no-such-package"


def test_torch_missing_and_torch_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(software, "_version", lambda name: None)
    check = software.torch()
    assert check.state == WARNING and check.remedy == "pip install 'nas-cntk[train]'"
    monkeypatch.setattr(software, "_version", lambda name: "9.9")
    check = software.torch()
    assert check.state == WARNING and "9.9 cannot be loaded" in check.found


def test_optional_packages_that_are_missing_are_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software, "_version", lambda name: None if name.startswith("onnx") else "1")
    check = software.extras()
    assert (
        check.state == OK
        and "not installed: onnx, onnxruntime, onnxscript (pip install 'nas-cntk[onnx]')" in check.found
    )


# Machine


def test_an_instruction_set_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from nas_cntk.kernels import _native

    monkeypatch.setenv("NAS_CNTK_ISA", "nonsense")
    check = machine.instructions()
    assert check.state == PROBLEM and "'nonsense'" in check.found
    assert check.remedy is not None and _native.instruction_sets()[0] in check.remedy
    monkeypatch.delenv("NAS_CNTK_ISA")
    assert machine.instructions().state == OK
    monkeypatch.setattr(_native, "instruction_set", lambda: "slow")
    assert machine.instructions().state == WARNING


def test_a_core_that_cannot_be_loaded_is_a_problem_and_nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    import nas_cntk.kernels

    monkeypatch.delattr(nas_cntk.kernels, "_native", raising=False)
    monkeypatch.setitem(sys.modules, "nas_cntk.kernels._native", None)
    check = machine.instructions()
    assert check.state == PROBLEM and check.remedy is not None and "C++20 compiler" in check.remedy


def test_the_quota_of_a_container(tmp_path: Path) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (groups / "a" / "b").mkdir(parents=True)
    assert machine.cpu_quota(proc, groups) is None
    (proc / "self" / "cgroup").write_text("0::/a/b\n")
    (groups / "a" / "b" / "cpu.max").write_text("max 100000\n")
    (groups / "a" / "cpu.max").write_text("50000 100000\n")
    assert machine.cpu_quota(proc, groups) == 0.5, "the least on the way up"
    (proc / "cpuinfo").write_text("model name : Tiny 1\n")
    check = machine.processor(proc, groups)
    assert check.state == WARNING and "Tiny 1" in check.found and "limited to the time of 0.5" in check.found
    (groups / "a" / "cpu.max").unlink()
    (groups / "cpu").mkdir()
    (groups / "cpu" / "cpu.cfs_quota_us").write_text("-1")
    (groups / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert machine.processor(proc, groups).state == OK


def test_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from nas_cntk.kernels import budget

    monkeypatch.setattr(budget, "available_memory", lambda: 300 << 20)
    check = machine.memory()
    assert check.state == WARNING and check.found.startswith("300 MiB available") and "--subset" in str(check.remedy)


# GPU

H100 = "NVIDIA H100 80GB HBM3, {driver}, 9.0, 81559"


@pytest.mark.parametrize(
    ("driver", "remedy"),
    [
        ("580.65.06", "pip install 'nas-cntk[cuda13]'"),
        ("535.104", "pip install 'nas-cntk[cuda12]'"),
        ("470.1", "install NVIDIA's driver 580 or newer, then pip install 'nas-cntk[cuda13]'"),
        ("[N/A]", "install NVIDIA's driver 580 or newer, then pip install 'nas-cntk[cuda13]'"),
    ],
)
def test_a_gpu_without_cupy_names_the_extra_that_fits_its_driver(
    driver: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(gpu, "cupys", lambda: [])
    check = gpu.gpu(nvidia_smi(tmp_path, f"echo '{H100.format(driver=driver)}'"))
    assert check.state == WARNING and "CuPy is not installed" in check.found and "H100" in check.found
    assert check.remedy == remedy


@pytest.mark.parametrize("script", [None, "echo 'No devices were found'; exit 6"])
def test_no_gpu_is_fine(script: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    command = (str(tmp_path / "none"),) if script is None else nvidia_smi(tmp_path, script)
    check = gpu.gpu(command)
    assert check.state == OK and "no NVIDIA GPU" in check.found


def test_a_driver_that_fails_or_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = gpu.gpu(nvidia_smi(tmp_path, "echo 'couldn not\ncommunicate with the NVIDIA driver'; exit 9"))
    assert check.state == WARNING and "communicate" in check.found and "\n" not in check.found
    monkeypatch.setattr(gpu, "PATIENCE", 0.1)
    check = gpu.gpu(nvidia_smi(tmp_path, "exec sleep 5"))
    assert check.state == WARNING and "does not answer" in check.found


def test_cupy_that_finds_its_gpu_or_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = nvidia_smi(tmp_path, f"echo '{H100.format(driver='580.65.06')}'")
    monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(gpu, "cupys", lambda: ["cupy-cuda13x 13.6"])
    one = cuda.Gpu(0, "NVIDIA H100", "9.0", 70 << 30, 80 << 30)
    monkeypatch.setattr(cuda, "found", lambda: cuda.Found("13.6", 13000, 13000, (one,)))
    check = gpu.gpu(command)
    assert check.state == OK
    assert "0: NVIDIA H100 (compute capability 9.0, 70.0 GiB of 80.0 GiB free); CuPy 13.6 for CUDA 13.0" in check.found
    monkeypatch.setattr(cuda, "found", lambda: cuda.Found("13.6", 12040, 13000, (one,)))
    assert gpu.gpu(command).state == WARNING

    def nothing() -> Any:
        raise BackendUnavailable("backend cuda finds no usable GPU (cudaErrorInsufficientDriver); install a driver")

    monkeypatch.setattr(cuda, "found", nothing)
    check = gpu.gpu(command)
    assert check.state == WARNING and "cudaErrorInsufficientDriver" in check.found
    assert check.remedy == "pip install 'nas-cntk[cuda13]'"
    monkeypatch.setattr(gpu, "cupys", lambda: ["cupy-cuda12x 13.4", "cupy-cuda13x 13.6"])
    check = gpu.gpu(command)
    assert check.state == WARNING and str(check.remedy).startswith("pip uninstall cupy-cuda12x cupy-cuda13x, then ")


# Disk and database


def test_no_database_yet_is_fine_and_none_is_made(tmp_path: Path) -> None:
    db = str(tmp_path / "deep" / "nas.db")
    assert storage.disk(db).state == OK and str(tmp_path) in storage.disk(db).found
    check = storage.database(db)
    assert check.state == OK and "no database yet" in check.found
    assert storage.leases(db).state == OK and not list(tmp_path.iterdir())


def test_disks_that_are_full_small_or_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = str(tmp_path / "nas.db")
    usage = SimpleNamespace(free=10 << 20)
    monkeypatch.setattr(storage, "shutil", SimpleNamespace(disk_usage=lambda folder: usage))
    check = storage.disk(db)
    assert check.state == PROBLEM and "10 MiB free" in check.found and "free some space" in str(check.remedy)
    usage.free = 500 << 20
    assert storage.disk(db).state == WARNING

    def refuse(number: int) -> Any:
        def refused(**_: object) -> Any:
            raise OSError(number, os.strerror(number))

        return refused

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse(errno.EROFS))
    check = storage.disk(db)
    assert check.state == PROBLEM and "Read-only file system" in check.found and "permissions" in str(check.remedy)
    usage.free = 0
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse(errno.ENOSPC))
    check = storage.disk(db)
    assert check.state == PROBLEM and "No space left" in check.found and "free some space" in str(check.remedy)
    (tmp_path / "file").write_text("")
    assert "is no folder" in storage.disk(str(tmp_path / "file" / "nas.db")).found


def test_a_network_file_system_is_a_warning(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\nserver:/y {tmp_path}x nfs4 rw 0 0\n")
    check = storage.disk(str(tmp_path / "nas.db"), mounts)
    assert check.state == WARNING and "nfs4" in check.found
    mounts.write_text("broken\n")
    assert storage.disk(str(tmp_path / "nas.db"), mounts).state == OK


@pytest.fixture
def db(tmp_path: Path) -> str:
    """A database with a study of which one trial's process is dead."""
    path = str(tmp_path / "nas.db")
    records = open_records(path, write=True)
    import optuna

    optuna_storage = open_storage(records)
    made = optuna.create_study(study_name="one", storage=optuna_storage)
    study_id: int = made._study_id
    insert_study(
        records,
        study_id,
        target=5,
        identity={},
        config={},
        sampler={},
        versions={},
        space_source="",
        rate=None,
        rate_backend=None,
    )
    dead = Owner("token", Owner.current().host, 2**22 + 1, "0")
    lease = leases.claim(records, study_id, 5, dead)
    assert isinstance(lease, Lease)
    leases.begin_scoring(records, lease, made.ask().number)
    optuna_storage.engine.dispose()
    records.close()
    return path


def test_a_whole_database_and_what_a_kill_left_in_it(db: str) -> None:
    before = Path(db).read_bytes()
    check = storage.database(db)
    assert check.state == OK and "whole" in check.found and "1 study" in check.found
    assert f"schema {len(MIGRATIONS)}" in check.found
    check = storage.leases(db)
    assert check.state == WARNING and "trial 0 of one" in check.found and "nothing finished is lost" in check.found
    assert "nas-cntk resume --study one" in str(check.remedy) and "nas-cntk clean" in str(check.remedy)
    assert Path(db).read_bytes() == before


@pytest.mark.parametrize(
    ("breaks", "says"),
    [
        ("page", "is damaged"),
        ("half", "is damaged"),
        ("text", "is not a SQLite database"),
        ("folder", "is a folder"),
        ("newer", "was written by a newer nas-cntk (schema 99"),
        ("foreign", "belongs to another program"),
    ],
)
def test_databases_that_are_broken(breaks: str, says: str, db: str) -> None:
    path = Path(db)
    content = path.read_bytes()
    if breaks == "page":
        path.write_bytes(content[:8192] + b"\xaa" * 16384 + content[24576:])
    elif breaks == "half":
        path.write_bytes(content[: len(content) // 2])
    elif breaks == "text":
        path.write_text("no database at all")
    elif breaks == "folder":
        path.unlink()
        path.mkdir()
    else:
        if breaks == "foreign":
            path.unlink()
        connection = sqlite3.connect(path)
        statement = "INSERT INTO ncntk_schema VALUES (99, 'x', '9.9')"
        connection.execute(statement if breaks == "newer" else "CREATE TABLE invoices (id INTEGER)")
        connection.commit()
        connection.close()
    check = guarded("database", lambda: storage.database(db))
    assert check.state == PROBLEM and says in check.found and check.remedy, check
    assert "\n" not in check.found


def test_an_older_schema_is_fine_and_left_as_it_is(db: str) -> None:
    connection = sqlite3.connect(db)
    connection.execute("DELETE FROM ncntk_schema WHERE version > 2")
    connection.commit()
    connection.close()
    check = storage.database(db)
    assert check.state == OK and f"schema 2 (the next command brings it to {len(MIGRATIONS)})" in check.found
    assert storage.database(db) == check


def test_a_database_that_cannot_be_written(db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    check = storage.database(db)
    assert check.state == PROBLEM and "cannot be written" in check.found and "permissions" in str(check.remedy)


@pytest.mark.skipif(os.geteuid() == 0, reason="this user may write everything")
def test_a_folder_without_permission(db: str) -> None:
    folder = Path(db).parent
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert storage.disk(db).state == PROBLEM and storage.database(db).state == PROBLEM
    finally:
        folder.chmod(stat.S_IRWXU)


# Kernels


def test_a_wrong_kernel_is_a_problem_and_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert speed.kernels("cpu").state == OK
    right = exact.kernel

    def wrong(arch: Any, x: Any, **options: Any) -> Any:
        found = right(arch, x, **options)
        return found if options["backend"] == "reference" else found * np.float32(1.001)

    monkeypatch.setattr(exact, "kernel", wrong)
    check = speed.kernels("cpu")
    assert check.state == PROBLEM and "1e-03" in check.found and "--backend reference" in str(check.remedy)
    assert [check.name for check in examination._speed("cpu", last=True)] == ["kernels"]


def test_a_slow_machine_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    from nas_cntk.kernels import cost

    monkeypatch.setattr(cost, "measure_rate", lambda backend, seconds: 1e6)
    check, measured = speed.rate("cpu")
    assert check.state == WARNING and "1e+06 entry-layers/s" in check.found and measured == 1e6
    slow = speed.default_search(1e6, "cpu")
    assert "digits, space plain, 30 trials" in slow.found and slow != speed.default_search(1e9, "cpu")


def test_a_gpu_is_tried_after_the_cpu_and_the_search_predicted_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predicted = []

    def default_search(measured: float, backend: str) -> Check:
        predicted.append((measured, backend))
        return Check("search", OK, "soon")

    monkeypatch.setattr(gpu, "gpu", lambda: Check("gpu", OK, "a large one"))
    monkeypatch.setattr(exact, "resolve_backend", lambda name: "cuda")
    monkeypatch.setattr(speed, "kernels", lambda backend: Check("kernels", OK, backend))
    rates = {"cpu": 1e9, "cuda": 1e12}
    monkeypatch.setattr(speed, "rate", lambda backend: (Check("speed", OK, backend), rates[backend]))
    monkeypatch.setattr(speed, "default_search", default_search)
    found = [check.found for check in examination.examine(str(tmp_path / "nas.db"))]
    at = found.index("a large one")
    assert [one for one in found[at:] if one in ("cpu", "cuda", "soon")] == ["cpu", "cpu", "cuda", "cuda", "soon"]
    assert predicted == [(1e12, "cuda")]

    def fails(backend: str) -> Check:
        if backend == "cuda":
            raise KernelError("GPU 0 failed (out of order); try backend cpu")
        return Check("kernels", OK, backend)

    monkeypatch.setattr(speed, "kernels", fails)
    checks = {check.name: check for check in examination.examine(str(tmp_path / "nas.db"))}
    assert checks["kernels (cuda)"] == Check(
        "kernels (cuda)", PROBLEM, "GPU 0 failed (out of order)", "try backend cpu"
    )
