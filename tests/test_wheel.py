"""What is shipped: the files of the source distribution and of the wheel, and a search from the wheel alone."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

SPACES = {f"nas_cntk/search_spaces/{name}.py" for name in ("nasbench201", "plain", "resnet", "stages")}


def hook(repository: Path, name: str, folder: Path) -> Path:
    """Build as pip and `python -m build` do, with what is installed here; return the file."""
    pytest.importorskip("scikit_build_core", reason="scikit-build-core is not installed (extra dev)")
    code = f"from scikit_build_core.build import {name}; print({name}({str(folder)!r}))"
    result = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder / result.stdout.split()[-1]


def test_the_source_distribution_has_what_a_build_and_its_tests_need(repository: Path, tmp_path: Path) -> None:
    with tarfile.open(hook(repository, "build_sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = "LICENSE CITATION.cff Makefile constraints.txt mkdocs.yml Dockerfile CMakeLists.txt docs/tutorial.md"
    wanted += " nas_cntk/py.typed nas_cntk/kernels/native/cpu.cpp search_spaces/plain.py tests/docs/nas-cntk"
    assert set(wanted.split()) <= names
    assert not [name for name in names if name.endswith((".so", ".db", ".pyc")) or name.startswith((".ci", "site/"))]


@pytest.mark.slow
def test_a_wheel_is_complete_and_searches(repository: Path, tmp_path: Path) -> None:
    wheel = hook(repository, "build_wheel", tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"nas_cntk/py.typed", "nas_cntk/kernels/native/gram.cu"} | SPACES <= names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert len([name for name in names if name.startswith("nas_cntk/kernels/_native.") and name.endswith(".so")]) == 1
    tops = {name.split("/")[0] for name in names}
    assert len(tops) == 2 and not [name for name in names if name.endswith((".cpp", "CMakeLists.txt"))]

    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*pip, str(wheel)], check=True)
    small = ["--subset", "30", "--holdout", "30", "--trials", "3", "--quiet"]
    code = f"import nas_cntk; assert nas_cntk.__file__.startswith({str(site)!r})\nfrom nas_cntk.cli import main\nmain()"
    result = subprocess.run(
        [sys.executable, "-c", code, "search", *small],
        cwd=elsewhere,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0 and "complete, 3 of 3 trials" in result.stdout, result.stderr


def test_the_citation_is_of_this_version(repository: Path) -> None:
    version = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["version"]
    citation = (repository / "CITATION.cff").read_text()
    assert f"\nversion: {version}\n" in citation and "\nlicense: MIT\n" in citation


def test_wheels_are_configured_for_every_python_that_is_promised(repository: Path) -> None:
    document = tomllib.loads((repository / "pyproject.toml").read_text())
    promised = [c.rpartition(" ")[2] for c in document["project"]["classifiers"] if "Python :: 3." in c]
    assert document["tool"]["cibuildwheel"]["build"] == [f"cp{python.replace('.', '')}-*" for python in promised]
    assert {"linux", "macos", "windows"} <= set(document["tool"]["cibuildwheel"])
