"""Versions: this package, what it needs, and what parts of it would like to have."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from nas_cntk.doctor.check import OK, PROBLEM, WARNING, Check

PACKAGE = "nas-cntk"
SHOWN = ("numpy", "scipy", "optuna", "scikit-learn", "sqlalchemy")  # of the libraries that all must fit
EXTRAS = {"matplotlib": "report", "jinja2": "report", "onnx": "onnx", "onnxruntime": "onnx", "onnxscript": "onnx"}


def package() -> Check:
    """Return the version of this package, and where it is."""
    import nas_cntk

    where = Path(nas_cntk.__file__).resolve().parent
    how = "" if _version(PACKAGE) else ", run from its source"
    return Check(PACKAGE, OK, f"{nas_cntk.__version__} in {where}{how}")


def python() -> Check:
    """Return the interpreter."""
    bits = 64 if sys.maxsize > 2**32 else 32
    found = f"{platform.python_version()} ({platform.python_implementation()}, {bits} bits) at {sys.executable}"
    if bits == 32:
        return Check("python", WARNING, found, "use a 64-bit Python: kernels of many images need more than 4 GB")
    return Check("python", OK, found)


def libraries(requirements: Iterable[str] | None = None) -> Check:
    """Return whether everything that this package requires is there, in a version that it was made for."""
    if requirements is None:
        requirements = _requirements()
    shown = ", ".join(f"{name} {_version(name)}" for name in SHOWN if _version(name))
    missing, unfit = [], []
    for text in requirements:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        there = _version(wanted.name)
        if there is None:
            missing.append(str(wanted.name))
        elif not wanted.specifier.contains(there, prereleases=True):
            unfit.append(f"{wanted.name} {there} (needs {wanted.specifier})")
    if missing:
        return Check("libraries", PROBLEM, f"not installed: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    if unfit:
        remedy = f"pip install --upgrade {PACKAGE}, or make a fresh environment for it"
        return Check("libraries", WARNING, f"not what this version was made for: {', '.join(unfit)}", remedy)
    return Check("libraries", OK, shown)


def torch() -> Check:
    """Return torch as it can be loaded, and what it may compute on."""
    try:
        import torch as loaded
    except ImportError as error:
        if _version("torch") is None:
            found = "not installed; only validate, export and the paper's CNNs need it"
            return Check("torch", WARNING, found, f"pip install '{PACKAGE}[train]'")
        words = " ".join(str(error).split())[:200]
        return Check(
            "torch", WARNING, f"{_version('torch')} cannot be loaded: {words}", "pip install --force-reinstall torch"
        )
    devices = ["cpu"]
    if loaded.cuda.is_available():
        devices = [
            f"cuda:{number} ({loaded.cuda.get_device_name(number)})" for number in range(loaded.cuda.device_count())
        ]
    elif loaded.backends.mps.is_available():
        devices = ["mps"]
    return Check("torch", OK, f"{loaded.__version__}, trains on {', '.join(devices)}")


def extras() -> Check:
    """Return which packages of the optional parts are there; none of them is needed for a search."""
    there = [f"{name} {_version(name)}" for name in EXTRAS if _version(name)]
    missing = [name for name in EXTRAS if not _version(name)]
    words = [", ".join(there)] if there else []
    if missing:
        names = dict.fromkeys(EXTRAS[name] for name in missing)
        how = " ".join(f"'{PACKAGE}[{name}]'" for name in names)
        words.append(f"not installed: {', '.join(missing)} (pip install {how})")
    return Check("extras", OK, "; ".join(words))


def cupys(names: Sequence[str] = ("cupy", "cupy-cuda11x", "cupy-cuda12x", "cupy-cuda13x")) -> list[str]:
    """Return the CuPy distributions that are installed; more than one is one too many."""
    return [f"{name} {_version(name)}" for name in names if _version(name)]


def _requirements() -> list[str]:
    try:
        return metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return []  # run from its source: what it needs is in pyproject.toml, and not known here


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
