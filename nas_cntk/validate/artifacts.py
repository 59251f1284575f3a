"""What validation keeps beside the database: trained weights, and the checkpoints and tiles of unfinished work.

    <database without its suffix>-artifacts/<study>/<key>-<recipe>.safetensors   trained weights
    <database without its suffix>-artifacts/<study>/<key>-<recipe>.checkpoint    a training under way
    <database without its suffix>-artifacts/<study>/<key>-kernel                 tiles of a Gram matrix under way

Files are whole or not there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from nas_cntk.errors import RecordsError
from nas_cntk.files import write_file
from nas_cntk.records.database import locate

if TYPE_CHECKING:
    from nas_cntk.data import Dataset

_LONGEST = 120  # of a folder's name; file systems allow 255 bytes
_LOCK = ".lock"


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What was subtracted from each channel and what it was divided by: the training set's mean and deviation."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def to_dict(self) -> dict[str, list[float]]:
        """Return both for JSON."""
        return {"mean": list(self.mean), "deviation": list(self.deviation)}


def preprocessing(dataset: Dataset) -> Preprocessing:
    """Return how `data.standardise` treats this dataset, which is not standardised yet; a constant channel keeps 1."""
    from nas_cntk.data.preprocessing import channel_moments

    mean, deviation = channel_moments(np.ascontiguousarray(dataset.x_train))
    deviation = np.where(deviation == 0, 1.0, deviation)
    return Preprocessing(tuple(map(float, mean)), tuple(map(float, deviation)))


def study_folder(db: str, study: str) -> Path:
    """Return the folder of a study's artifacts; it need not exist."""
    # A study's name may hold anything printable; what no file may be called becomes %XX.
    name = quote(study, safe=" ()[]+,;=@!~")
    if len(name) > _LONGEST or name.strip(".") == "":
        import hashlib

        name = f"{name[: _LONGEST - 17].strip('.')}-{hashlib.sha256(study.encode()).hexdigest()[:16]}"
    path = locate(db).path
    return path.parent / f"{path.stem}-artifacts" / name  # two databases of one folder may have studies of one name


def weights_path(db: str, study: str, key: str, recipe: str) -> Path:
    """Return where the trained weights of an architecture are, or would be."""
    return study_folder(db, study) / f"{key}-{recipe}.safetensors"


def checkpoint_path(db: str, study: str, key: str, recipe: str) -> Path:
    """Return where a training under way is kept."""
    return study_folder(db, study) / f"{key}-{recipe}.checkpoint"


def gram_path(db: str, study: str, key: str) -> Path:
    """Return where the tiles of a full-dataset kernel are kept until it is solved."""
    return study_folder(db, study) / f"{key}-kernel"


def save_weights(path: Path, weights: Mapping[str, Any], metadata: Mapping[str, object]) -> None:
    """Write a state_dict and, as JSON, what is needed to build and to feed its network.

    Raises:
        RecordsError: if the file cannot be written.
    """
    from safetensors.torch import save

    plain = save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()})
    # The library puts metadata in an order of chance; equal networks shall be equal files.
    length = int.from_bytes(plain[:8], "little")
    text = {name: json.dumps(metadata[name]) for name in sorted(metadata)}
    header = json.dumps({"__metadata__": text, **json.loads(plain[8 : 8 + length])}).encode()
    header += b" " * (-len(header) % 8)
    content = len(header).to_bytes(8, "little") + header + plain[8 + length :]
    write_file(path, lambda file: file.write(content))


def load_weights(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the state_dict and the metadata that `save_weights` wrote.

    Raises:
        RecordsError: if the file is not there, or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}
            metadata = {name: json.loads(value) for name, value in (file.metadata() or {}).items()}
    except (OSError, SafetensorError, ValueError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:120]
        raise RecordsError(f"the weights {path} cannot be read: {reason}; validate the trial with --force") from None
    return weights, metadata


@contextlib.contextmanager
def working_on(db: str, study: str) -> Iterator[Path]:
    """Hold the study's folder: two processes would train the same networks.

    Raises:
        RecordsError: if another process validates this study, or the folder cannot be made.
    """
    folder = study_folder(db, study)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise RecordsError(f"the folder {folder} cannot be used: {error.strerror}; make it writable") from None
    try:
        try:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass  # no such locks on this system; files are whole all the same
        except BlockingIOError:
            raise RecordsError(f"another process validates study {study!r}; wait for it, or stop it") from None
        for left in folder.glob("*.partial"):  # of a process that was killed
            with contextlib.suppress(OSError):
                left.unlink()
        yield folder
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def changing(db: str, study: str) -> Iterator[None]:
    """Hold a study that is renamed or deleted, and leave no folder where there was none.

    Raises:
        RecordsError: if another process validates it.
    """
    there = study_folder(db, study).is_dir()
    with working_on(db, study) as folder:
        try:
            yield
        finally:
            if not there:
                shutil.rmtree(folder, ignore_errors=True)
                with contextlib.suppress(OSError):  # it holds other studies
                    folder.parent.rmdir()


def move_study(db: str, study: str, to: str) -> None:
    """Let the artifacts of a renamed study follow it.

    Raises:
        RecordsError: if they cannot be moved.
    """
    old, new = study_folder(db, study), study_folder(db, to)
    if not old.is_dir() or old == new or {entry.name for entry in old.iterdir()} <= {_LOCK}:
        return
    try:
        # Left by a study deleted long ago; or, where case makes no difference to the disk, the study's own.
        if new.exists() and not new.samefile(old):
            shutil.rmtree(new)
        os.replace(old, new)
    except OSError as error:
        raise RecordsError(f"{old} cannot be renamed to {new.name}: {error.strerror}; rename it by hand") from None


def delete_study(db: str, study: str) -> None:
    """Remove the artifacts of a study that was deleted."""
    shutil.rmtree(study_folder(db, study), ignore_errors=True)
