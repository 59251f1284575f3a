"""Search spaces: the shipped ones by name, anybody's by path, and what all of them have in common."""

from __future__ import annotations

import difflib
import hashlib
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeVar

from nas_cntk.architecture import Architecture, Builder
from nas_cntk.errors import IllegalArchitecture, NasCntkError, RecordsError, SpaceError

T = TypeVar("T", None, bool, int, float, str)

HEADS = ["flatten", "local", "global"]
LOCAL_SHARES = [0.25, 0.5, 0.75]


class Trial(Protocol):
    """What a space may ask of a trial: the part of `optuna.Trial` that suggests values."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...

    def suggest_categorical(self, name: str, choices: Sequence[T]) -> T: ...


Parameters = Mapping[str, Any]  # of a trial, by name
OPTIONAL = ("finite", "cost", "siblings")
DEFAULT_SCORE = "holdout_accuracy"  # works across heads and depths, where alignments do not


@dataclass(frozen=True, slots=True)
class Space:
    """A loaded search space; `source_hash` is the SHA-256 of its file.

    `optional` are the functions that a space need not have: `finite(params, image_shape, num_classes)`, a network of
    the space's own for the scores of finite networks; `cost(params, image_shape, num_classes)`, its "params" and
    "flops"; `siblings(params)`, the parameters of other proposals that share most of this one's network, those first
    that are to become trials first.
    """

    name: str
    path: Path
    source_hash: str
    function: Callable[[Any, tuple[int, int, int]], object]
    optional: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    score: str = DEFAULT_SCORE  # of a search that names none; the space's `SCORE`

    def propose(self, trial: Any, image_shape: Sequence[int]) -> Architecture:
        """Return the architecture that the space proposes for images (h, w, c).

        Raises:
            IllegalArchitecture: if it has no exact kernel or does not fit the image: prune the trial.
            SpaceError: if `propose` raises anything else or returns no Architecture: end the run.
        """
        height, width, channels = (int(side) for side in image_shape)
        try:
            proposal = self.function(trial, (height, width, channels))
        except IllegalArchitecture:
            raise
        except Exception as error:
            if _is_from_storage(error):
                raise
            raise SpaceError(f"propose of space {self.name} {_raised(error, self.path)}; mend {self.path}") from error
        if not isinstance(proposal, Architecture):
            raise SpaceError(
                f"propose of space {self.name} returned {_short(repr(proposal))}, no Architecture; mend {self.path}"
            )
        proposal.check((height, width, channels))
        return proposal

    def sizes(self, params: Parameters, image_shape: Sequence[int], num_classes: int) -> tuple[int, int] | None:
        """Return parameters and FLOPs as the space counts them; None if it leaves that to the architecture.

        Raises:
            SpaceError: if its function `cost` raises, or returns anything but two counts.
        """
        if "cost" not in self.optional:
            return None
        found = self._call("cost", params, tuple(image_shape), num_classes)
        try:
            weights, flops = found["params"], found["flops"]
            if not (0 <= weights < 2**63 and 0 <= flops < 2**63):
                raise ValueError
            return int(weights), int(flops)
        except (TypeError, KeyError, ValueError):
            raise SpaceError(
                f'cost of space {self.name} returned {_short(repr(found))}, not {{"params": ..., "flops": ...}};'
                f" mend {self.path}"
            ) from None

    def network(self, params: Parameters, image_shape: Sequence[int], num_classes: int) -> Callable[[], Any] | None:
        """Return what makes the space's own finite network; None if that is the architecture's standard one."""
        if "finite" not in self.optional:
            return None
        return lambda: self._call("finite", params, tuple(image_shape), num_classes)

    def siblings(self, params: Parameters) -> list[Parameters]:
        """Return the parameters of the proposals that the space calls siblings of this one; none if it names none.

        Raises:
            SpaceError: if its function `siblings` raises, or returns anything but a list of parameters.
        """
        if "siblings" not in self.optional:
            return []
        found = self._call("siblings", dict(params))
        if not isinstance(found, (list, tuple)) or not all(isinstance(one, Mapping) for one in found):
            raise SpaceError(
                f"siblings of space {self.name} returned {_short(repr(found))}, no list of parameters; mend {self.path}"
            )
        return list(found)

    def _call(self, name: str, *arguments: Any) -> Any:
        try:
            return self.optional[name](*arguments)
        except NasCntkError:
            raise
        except Exception as error:
            raise SpaceError(f"{name} of space {self.name} {_raised(error, self.path)}; mend {self.path}") from error


def head(trial: Trial, builder: Builder, x: int, shape: tuple[int, int]) -> int:
    """Append the head that the trial chooses to map `x` of `shape` (h, w): flatten, local or global pooling.

    Local pooling averages over windows of a quarter, half or three quarters of the map's shorter side, with
    stride 1, and flattens; on a map of less than two rows or columns it is flatten.
    Source of local pooling: Li et al., "Enhanced convolutional neural tangent kernels" (2019).
    """
    kind = trial.suggest_categorical("head", HEADS)
    if kind == "global":
        return builder.global_avg_pool(x)
    if kind == "local":
        shorter = min(shape)
        size = min(shorter, max(2, round(trial.suggest_categorical("local_share", LOCAL_SHARES) * shorter)))
        if size > 1:
            x = builder.avg_pool(x, size)
    return builder.flatten(x)


def heads(params: Parameters) -> list[Parameters]:
    """Return the proposals that differ from one with these parameters in the head alone, itself among them."""
    body = {name: value for name, value in params.items() if name not in ("head", "local_share")}
    local = [{**body, "head": "local", "local_share": share} for share in LOCAL_SHARES]
    return [{**body, "head": "flatten"}, *local, {**body, "head": "global"}]


def shipped_spaces() -> dict[str, Path]:
    """Return the spaces that come with the package, by name."""
    return {path.stem: path for path in sorted(_folder().glob("*.py")) if not path.stem.startswith("_")}


def load_space(name_or_path: str | os.PathLike[str]) -> Space:
    """Load a shipped space by its name, or one's own by the path of its file.

    Raises:
        SpaceError: if there is no such space or file, the file does not run, or it has no function `propose`.
    """
    text = os.fspath(name_or_path)
    shipped = shipped_spaces()
    is_path = text.endswith(".py") or os.sep in text
    if not is_path and text not in shipped:
        near = difflib.get_close_matches(text, shipped, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise SpaceError(
            f"unknown space {_short(repr(text))}; {hint}known spaces: {', '.join(shipped)}; or give a file, NAME.py"
        )
    path = Path(text) if is_path else shipped[text]
    try:
        source = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise SpaceError(f"cannot read space {path}: {reason}; give a Python file with propose") from None
    digest = hashlib.sha256(source).hexdigest()
    module = _run(path, source, f"nas_cntk_space_{digest[:16]}")
    function = getattr(module, "propose", None)
    if not callable(function):
        what = "has no function propose" if function is None else f"has a propose that is {type(function).__name__}"
        raise SpaceError(f"space {path} {what}; define propose(trial, image_shape) -> Architecture")
    optional = {name: getattr(module, name) for name in OPTIONAL if hasattr(module, name)}
    for name, value in optional.items():
        if not callable(value):
            raise SpaceError(f"space {path} has a {name} that is {type(value).__name__}; it must be a function")
    score = getattr(module, "SCORE", DEFAULT_SCORE)
    if not isinstance(score, str):
        raise SpaceError(f"space {path} has a SCORE that is {type(score).__name__}; it must be a text, NAME[,NAME]")
    return Space(path.stem, path, digest, function, optional, score)


def _folder() -> Path:
    """Return where the shipped spaces are: inside an installed package, or beside it in a source tree."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "search_spaces"
    return inside if inside.is_dir() else package.parent / "search_spaces"


def _run(path: Path, source: bytes, name: str) -> ModuleType:
    """Return the module that `source` makes: the very bytes that were hashed, no cache beside it."""
    module = ModuleType(name)
    module.__file__ = str(path)
    # Dataclasses and pickling look a class's module up there.
    sys.modules[name] = module
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except SyntaxError as error:
        raise SpaceError(f"space {path}, line {error.lineno}: syntax error: {error.msg}; mend the file") from None
    except (Exception, SystemExit) as error:
        raise SpaceError(f"space {path} cannot be loaded: it {_raised(error, path)}") from error
    return module


def _raised(error: BaseException, path: Path) -> str:
    """Say what was raised, and at which line of the space's file, if it was there."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    where = f" at line {lines[-1]}" if lines else ""
    message = _short(" ".join(str(error).split()))
    return f"raised {type(error).__name__}{where}" + (f": {message}" if message else "")


def _is_from_storage(error: Exception) -> bool:
    """Tell a database that failed under `suggest` from a fault of the space: the search speaks of it."""
    # By name: neither SQLAlchemy nor Optuna is imported for this.
    family = type(error).__module__.partition(".")[0]
    return (
        isinstance(error, RecordsError)
        or family in ("sqlite3", "sqlalchemy")
        or type(error).__name__ == "StorageInternalError"
    )


def _short(text: str, most: int = 200) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
