"""One architecture's turn: where its results go, and what its trainings read."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas_cntk import regression
from nas_cntk.errors import StudyError
from nas_cntk.kernels.filling import Engine
from nas_cntk.records.database import Records
from nas_cntk.records.studies import Study
from nas_cntk.records.validations import Validation
from nas_cntk.validate.devices import Devices
from nas_cntk.validate.images import ValidationImages
from nas_cntk.validate.selection import Candidate
from nas_cntk.validate.wishes import Wishes

if TYPE_CHECKING:
    import torch

    from nas_cntk.validate.training import Schedule, TensorSet

Progress = Callable[[float], None]  # fraction of the job done
Cancelled = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Bench:
    """What every job of a validation shares."""

    records: Records
    study: Study
    db: str
    images: ValidationImages
    devices: Devices
    backend: str  # of kernels, resolved
    wishes: Wishes
    engine: Engine | None = None  # that computes the tiles of full kernels; this process if None

    @property
    def seed(self) -> int:
        """The study's seed."""
        seed = self.study.identity.get("seed", 0)
        assert isinstance(seed, int)
        return seed

    @property
    def kernel_gpus(self) -> tuple[int, ...] | None:
        """The GPUs of kernels; None for the backend's own choice, or one that uses none."""
        return self.devices.gpus or None if self.backend == "cuda" else None

    @property
    def dtype(self) -> str:
        """The arithmetic of the study's kernels."""
        return str(self.study.identity.get("dtype", "float32"))


@dataclass(frozen=True, slots=True)
class Job:
    """A candidate, and how many images it is given."""

    bench: Bench
    candidate: Candidate
    train_images: int
    notes: Mapping[str, object]  # recorded with the result: what was predicted, what was lowered
    progress: Progress
    cancelled: Cancelled

    def settings(self, plan: Schedule, recipe: str, version: int, **own: object) -> str:
        """Return a hash of everything that a training's result depends on; `own` is what the recipe adds."""
        return settings_hash(
            {
                **plan.to_dict(),
                "version": version,
                "recipe": recipe,
                "key": self.candidate.key,
                "data": self.bench.images.dataset.fingerprint,
                "train_images": self.train_images,
                **own,
            }
        )

    def metadata(self, recipe: str, parameterisation: str, **own: object) -> dict[str, object]:
        """Return what a file of weights says of itself; `own` is what rebuilds the network beside the architecture."""
        dataset = self.bench.images.dataset
        return {
            "parameterisation": parameterisation,
            **own,
            "image_shape": list(dataset.image_shape),
            "num_classes": dataset.num_classes,
            "classes": list(dataset.classes),
            "preprocessing": self.bench.images.preprocessing.to_dict(),
            "recipe": recipe,
            "key": self.candidate.key,
            "architecture": self.candidate.architecture.to_json(),
        }

    def result(
        self,
        kind: str,
        recipe: str | None,
        accuracy: float | None,
        test_images: int,
        seconds: float,
        details: Mapping[str, object],
    ) -> Validation:
        """Return what is to be recorded; an accuracy of None is a training that diverged."""
        return Validation(
            study_id=self.bench.study.study_id,
            key=self.candidate.key,
            number=self.candidate.number,
            kind=kind,
            recipe=recipe,
            accuracy=accuracy,
            stderr=None if accuracy is None else regression.standard_error(accuracy, test_images),
            train_images=self.train_images,
            test_images=test_images,
            seconds=seconds,
            details={**details, "preprocessing": self.bench.images.preprocessing.to_dict(), **self.notes},
        )


def settings_hash(settings: Mapping[str, object]) -> str:
    """Return a hash of settings, whatever their order."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, allow_nan=False).encode()).hexdigest()[:32]


def training_sets(bench: Bench, n: int, device: torch.device) -> tuple[TensorSet, TensorSet]:
    """Return what the first n training images train on, and the part that chooses."""
    from nas_cntk.validate.images import chooser
    from nas_cntk.validate.training import tensors

    x, y = bench.images.train(n)
    aside = chooser(y)
    return tensors(x[~aside], y[~aside], device), tensors(x[aside], y[aside], device)


def test_set(bench: Bench, device: torch.device) -> TensorSet:
    """Return all test images."""
    from nas_cntk.validate.training import tensors

    return tensors(*bench.images.test(), device)


@contextlib.contextmanager
def memory_errors(number: int) -> Iterator[None]:
    """Turn what torch says where memory is short into one line.

    Raises:
        StudyError: naming the trial.
    """
    import torch

    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        pass
    except RuntimeError as error:
        if "memory" not in str(error):
            raise
    else:
        return
    raise StudyError(f"trial {number} needs more memory to train than there is; lower --width, or use another device")
