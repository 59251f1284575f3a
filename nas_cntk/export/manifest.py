"""model.json: what a folder with an exported model holds, read back with suspicion."""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from nas_cntk.data.preprocessing import chunks
from nas_cntk.errors import ModelError

FORMAT = "nas-cntk model"
VERSION = 1
FILE = "model.json"
ARCHITECTURE = "architecture.json"
WEIGHTS = "weights.safetensors"
KERNEL = "kernel.safetensors"
SOURCE = "model.py"
ONNX = "model.onnx"
CARD = "README.md"
OURS = (FILE, ARCHITECTURE, WEIGHTS, KERNEL, SOURCE, ONNX, CARD)

Resize = Literal["never", "shrink", "any"]
"""Whether images of another size are averaged to the model's: not, if they are larger, or always."""

LARGEST = 16 * 2**20  # bytes of a model.json
LARGEST_NUMBER = 2**31  # of sizes and counts


@dataclass(frozen=True, slots=True)
class Network:
    """What the weights are those of: the arguments of `standard_network`."""

    width: int
    batch_norm: bool
    recipe: str | None  # that trained them; None: random weights, and none are kept


@dataclass(frozen=True, slots=True)
class Regression:
    """How the coefficients were found; ridge and jitter are multiples of the kernel's mean diagonal."""

    kernel: Literal["ntk", "nngp"]
    dtype: str
    train_images: int
    ridge: float
    jitter: float
    mean_diagonal: float


@dataclass(frozen=True, slots=True)
class Manifest:
    """A model without its arrays: where it comes from, and how images become what it reads."""

    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]  # (h, w, c)
    resize: Resize
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    model: Network | Regression
    origin: Mapping[str, object]  # study, trial, key, data, ...: for people

    def standardised(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Return images x, shape (n, h, w, c), shifted and scaled as `data.standardise` does, bit by bit."""
        result = np.empty(x.shape, dtype=np.float32)
        mean, deviation = np.array(self.mean), np.array(self.deviation)
        for part in chunks(x):
            result[part] = (x[part].astype(np.float64) - mean) / deviation
        return result

    def to_json(self) -> str:
        """Return the text of model.json."""
        kind = "cnn" if isinstance(self.model, Network) else "kernel"
        document: dict[str, object] = {"format": FORMAT, "version": VERSION, "kind": kind}
        document |= {
            "classes": list(self.classes),
            "image_shape": list(self.image_shape),
            "resize": self.resize,
            "mean": list(self.mean),
            "deviation": list(self.deviation),
            kind: asdict(self.model),
            "origin": dict(self.origin),
        }
        return json.dumps(document, indent=2, allow_nan=False) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """Return what a folder says it holds.

    Raises:
        ModelError: if it is no folder with a model.json of this format.
    """
    path = folder / FILE
    try:
        if not folder.is_dir():
            what = "is a file" if folder.exists() else "does not exist"
            raise ModelError(f"{folder} {what}; give the folder that `nas-cntk export` wrote")
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"{path} cannot be read: no regular file; export the model again")
        if status.st_size > LARGEST:
            raise ModelError(f"{path} is too large to be a model.json; export the model again")
        text = path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{folder} has no {FILE}; give the folder that `nas-cntk export` wrote") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"{path} cannot be read: {reason}") from None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise ModelError(f"{path} is no JSON; export the model again") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ModelError(f'{path} is no model.json ("format" must be {FORMAT!r}); export the model again')
    if document.get("version") != VERSION:
        found = str(document.get("version"))[:20]
        raise ModelError(f"{path} has version {found!r}, this program reads {VERSION}; export the model again with it")
    try:
        return _manifest(document)
    except _Wrong as wrong:
        raise ModelError(f"{path} is damaged: {wrong}; export the model again") from None


class _Wrong(Exception):
    """A field that is missing or is something else."""


def _manifest(document: dict[str, Any]) -> Manifest:
    kind = document.get("kind")
    if kind not in ("cnn", "kernel"):
        raise _Wrong(f'"kind" is {str(kind)[:40]!r}, neither "cnn" nor "kernel"')
    classes = _list(document, "classes", str)
    shape = _list(document, "image_shape", int)
    mean, deviation = _list(document, "mean", float), _list(document, "deviation", float)
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise _Wrong('"classes" must be two or more different names')
    if len(shape) != 3 or min(shape) < 1:
        raise _Wrong('"image_shape" must be height, width and channels')
    if not len(mean) == len(deviation) == shape[2] or min(deviation) <= 0:
        raise _Wrong(f'"mean" and "deviation" must be {shape[2]} numbers each, the deviations positive')
    part = document.get(kind)
    if not isinstance(part, dict):
        raise _Wrong(f'"{kind}" is missing')
    model = _network(part) if kind == "cnn" else _regression(part)
    origin = document.get("origin")
    return Manifest(
        classes=tuple(classes),
        image_shape=(shape[0], shape[1], shape[2]),
        resize=_resize(document),
        mean=tuple(mean),
        deviation=tuple(deviation),
        model=model,
        origin=origin if isinstance(origin, dict) else {},
    )


def _resize(document: dict[str, Any]) -> Resize:
    for known in get_args(Resize):
        if document.get("resize") == known:
            return cast("Resize", known)
    raise _Wrong('"resize" must be "never", "shrink" or "any"')


def _network(part: dict[str, Any]) -> Network:
    width = _one(part, "width", int)
    if width < 1:
        raise _Wrong('"width" must be 1 or more')
    return Network(width, _one(part, "batch_norm", bool), None if part.get("recipe") is None else str(part["recipe"]))


def _regression(part: dict[str, Any]) -> Regression:
    kernel, dtype = part.get("kernel"), part.get("dtype")
    if kernel != "ntk" and kernel != "nngp":
        raise _Wrong('"kernel" must be "ntk" or "nngp"')
    if dtype not in ("float32", "float64"):
        raise _Wrong('"dtype" must be "float32" or "float64"')
    numbers = [_one(part, name, float) for name in ("ridge", "jitter", "mean_diagonal")]
    return Regression(kernel, dtype, _one(part, "train_images", int), numbers[0], numbers[1], numbers[2])


def _one(document: dict[str, Any], name: str, kind: type) -> Any:
    value = document.get(name)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 2**53 else math.inf
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _Wrong(f'"{name}" is {"missing" if value is None else "of the wrong type"}')
    if isinstance(value, int) and abs(value) >= LARGEST_NUMBER:
        raise _Wrong(f'"{name}" is out of range')
    if isinstance(value, float) and not math.isfinite(value):
        raise _Wrong(f'"{name}" is not finite')
    return value


def _list(document: dict[str, Any], name: str, kind: type) -> list[Any]:
    values = document.get(name)
    if not isinstance(values, list):
        raise _Wrong(f'"{name}" is {"missing" if values is None else "no list"}')
    return [_one({name: value}, name, kind) for value in values]
