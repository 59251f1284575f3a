"""What is promised about installing: pins, named users of dependencies, light imports, one-line build errors."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HEAVY = ("torch", "optuna", "sqlalchemy", "sklearn", "cupy", "scipy", "zarr", "PIL")


@pytest.fixture(scope="module")
def pyproject(repository: Path) -> dict[str, Any]:
    return tomllib.loads((repository / "pyproject.toml").read_text())


def pins(repository: Path) -> dict[str, str]:
    lines = (repository / "constraints.txt").read_text().splitlines()
    found = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pin) == 2 for pin in found), "every line pins one version"
    return {canonicalize_name(name): version for name, version in found}


def test_every_dependency_names_its_user(repository: Path) -> None:
    text = (repository / "pyproject.toml").read_text()
    block = text[text.index("\ndependencies = [") : text.index("[project.scripts]")]
    lines = [line for line in block.splitlines() if re.search(r'"[a-z][\w-]*[<>=]', line)]
    assert len(lines) > 12
    for line in lines:
        assert re.search(r"\]?,?\s+# \S+", line), f"no user named: {line}"


def test_the_pins_fit_the_ranges(repository: Path, pyproject: dict[str, Any]) -> None:
    pinned = pins(repository)
    extras = pyproject["project"]["optional-dependencies"]
    wanted = [
        *pyproject["build-system"]["requires"],
        *pyproject["project"]["dependencies"],
        *extras["train"],
        *extras["dev"],
        *extras["docs"],
    ]
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"{name} is not pinned"
        assert requirement.specifier.contains(pinned[name]), f"{requirement} does not admit {pinned[name]}"


def test_the_pins_bring_no_cuda_and_name_no_place(repository: Path) -> None:
    text = (repository / "constraints.txt").read_text()
    assert "://" not in text and "@" not in text and not re.search(r"(^|\s)/", text)
    # The compiler of CUDA text, which tests/kernels/cuda uses, is one library that needs no GPU and nothing else.
    assert {name for name in pins(repository) if re.match(r"nvidia|cuda|cupy|triton", name)} == {"nvidia-cuda-nvrtc"}
    assert pins(repository)["torch"] == "2.13.0"  # without +cpu, which macOS does not have


def test_the_version_is_one(pyproject: dict[str, Any]) -> None:
    import nas_cntk

    assert nas_cntk.__version__ == pyproject["project"]["version"]


@pytest.mark.parametrize("module", ["nas_cntk", "nas_cntk.cli"])
def test_importing_brings_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_spaces_are_found_inside_an_installed_package(repository: Path, tmp_path: Path) -> None:
    package = tmp_path / "site" / "nas_cntk"
    shutil.copytree(repository / "nas_cntk", package, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    mapping = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["scikit-build"]["wheel"]["packages"]
    for target, source in mapping.items():
        if target != "nas_cntk":
            shutil.copytree(repository / source, tmp_path / "site" / target)
    code = "from nas_cntk.search import spaces; print(*sorted(str(p) for p in spaces.shipped_spaces().values()))"
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site"), "PYTHONDONTWRITEBYTECODE": "1"}
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, cwd=tmp_path
    )
    assert out.stdout.split() == [
        str(package / "search_spaces" / f"{name}.py") for name in ("nasbench201", "plain", "resnet", "stages")
    ]
    assert (package / "py.typed").is_file()


@pytest.fixture
def checkout(repository: Path, tmp_path: Path) -> Path:
    """A folder, with a space in its name, that has the Makefile and nothing to build."""
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    folder = tmp_path / "a checkout"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "CMakeLists.txt", "README.md", "LICENSE"):
        shutil.copy(repository / name, folder)
    return folder


def make(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(shutil.which("make")), "--no-print-directory", *arguments]
    inherited = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "CXX")}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=inherited | environment)


def test_an_old_python_is_one_line(checkout: Path) -> None:
    old = checkout / "python3.9"
    code = "import sys; program = sys.argv[2]; sys.version_info = (3, 9, 0); exec(program)"
    old.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{code}" "$@"\n')
    old.chmod(0o755)
    result = make(checkout, "test", "PYTHON=./python3.9")
    assert result.returncode == 2
    assert result.stderr.splitlines()[0] == (
        "error: nas-cntk needs Python 3.11 or newer, ./python3.9 is 3.9; name another one with: make PYTHON=python3.13"
    )
    assert not (checkout / ".venv").exists()


def test_a_missing_compiler_is_one_line(checkout: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "find"):
        (tools / name).symlink_to(str(shutil.which(name)))
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / ".dependencies").touch()
    result = make(checkout, "search", PATH=str(tools))
    assert result.returncode == 2
    assert result.stderr.splitlines()[0].startswith("error: nas-cntk needs a C++20 compiler")
    assert len(result.stderr.splitlines()) == 2  # the other is make's own


def test_the_readme_has_the_two_commands_and_only_known_ones(repository: Path) -> None:
    text = (repository / "README.md").read_text()
    assert "make search" in text and "make test" in text
    targets = set(re.findall(r"^([a-z]+):", (repository / "Makefile").read_text(), re.M))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.M)) <= targets
    reference = (repository / "docs" / "cli.md").read_text()
    for command, options in re.findall(r"^nas-cntk ([a-z]+)([^#\n]*)", text, re.M):
        assert f"## nas-cntk {command}\n" in reference
        for option in re.findall(r"--[a-z-]+", options):
            assert f"  {option} " in reference, f"{command} {option}"


def test_the_readmes_python_runs(repository: Path, tmp_path: Path) -> None:
    text = (repository / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(blocks) == 2
    space, program = blocks
    (tmp_path / "mine.py").write_text(space)
    check = (
        "import optuna\nfrom nas_cntk.search.spaces import load_space\n"
        f"load_space({str(tmp_path / 'mine.py')!r}).propose(optuna.create_study().ask(), (8, 8, 1))\n"
    )
    for code in (check, program):
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
