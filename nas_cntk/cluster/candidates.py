"""The candidates of a search as tasks of a cluster: one architecture a task, images sent once to whoever needs them.

A worker that is lost costs the candidates that it had: Dask gives them to another. Each worker takes its own backend,
so that some may have a GPU; on one instruction set a score has the bits that one process gives it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nas_cntk.cluster.client import open_cluster
from nas_cntk.errors import BackendUnavailable, KernelError

if TYPE_CHECKING:
    from distributed import Client, Future

    from nas_cntk.architecture import Architecture
    from nas_cntk.scoring import ArchitectureScores

ATTEMPTS = 4  # at a candidate whose images or results die with workers
PATIENCE = 60.0  # seconds without a worker
POLL = 0.5  # seconds between looks at whether to stop

_LOST = "lost", "cancelled"


@dataclass(slots=True, eq=False)
class Candidates:
    """Scores architectures of one search by the workers of a Dask cluster."""

    client: Client
    backend: str = "auto"  # of the workers: each resolves it for itself
    _sent: tuple[Future[Any], ...] = field(default=(), init=False)
    _kept: dict[str, ArchitectureScores] = field(default_factory=dict, init=False)
    _deadly: dict[str, KernelError] = field(default_factory=dict, init=False)  # never tried again: they cost workers

    @property
    def address(self) -> str:
        """The scheduler's, for other processes of the search."""
        return str(self.client.scheduler_info(n_workers=0)["address"])

    def threads(self) -> int:
        """Return how many candidates the cluster scores at once."""
        return max(1, int(sum(self.client.nthreads().values())))

    def score(
        self,
        family: Sequence[Architecture],
        images: Sequence[NDArray[Any]],
        settings: Mapping[str, Any],
        sizes: Sequence[tuple[float, float]] | None,
        progress: Callable[[float], None],
        cancelled: Callable[[], bool],
    ) -> list[ArchitectureScores]:
        """Return the scores of every architecture, each computed by itself.

        All are waited for, also where one fails: those that are asked for again are then there.

        Args:
            images: x, y, x_holdout, y_holdout of `scoring.score_family`, equal at every call.
            settings: keyword arguments of that.

        Raises:
            KernelError: if the workers of a candidate die again and again; else what its score raises.
            BackendUnavailable: if the cluster is gone, or has no workers any more.
            KeyboardInterrupt: if cancelled. What a worker has begun it ends, for nobody.
        """
        found = {place: self._kept[arch.key] for place, arch in enumerate(family) if arch.key in self._kept}
        pending: dict[Future[Any], tuple[int, int]] = {}

        def submit(place: int, tried: int) -> None:
            size = None if sizes is None else [sizes[place]]
            wanted = {**settings, "backend": self.backend, "sizes": size}
            task = self.client.submit(_scored, family[place].to_json(), wanted, *self._images(images), pure=False)
            pending[task] = place, tried

        errors: list[BaseException] = [self._deadly[arch.key] for arch in family if arch.key in self._deadly]
        try:
            for place, arch in enumerate(family):
                if place not in found and arch.key not in self._deadly:
                    submit(place, 1)
            for future in self._ended(pending, cancelled):
                place, tried = pending.pop(future)
                scores, error = _outcome(future)
                if scores is not None:
                    found[place] = self._kept[family[place].key] = scores
                elif error is not None:
                    errors.append(error)
                elif future.status == "error" or tried == ATTEMPTS:
                    died = KernelError("the workers of a candidate died again and again; have they enough memory?")
                    self._deadly[family[place].key] = died
                    errors.append(died)
                else:
                    submit(place, tried + 1)
                progress((len(found) + len(errors)) / len(family))
        finally:
            self.client.cancel(list(pending), force=True)
        if errors:
            raise errors[0]
        self._kept.clear()
        return [found[place] for place in range(len(family))]

    def _ended(self, pending: Mapping[Future[Any], object], cancelled: Callable[[], bool]) -> Iterator[Future[Any]]:
        """Yield what is pending as it ends, until nothing is."""
        from distributed import CancelledError, wait
        from distributed import TimeoutError as NotYet

        alive = time.monotonic()
        while pending:
            if cancelled():
                raise KeyboardInterrupt
            try:
                wait(list(pending), timeout=POLL, return_when="FIRST_COMPLETED")
            except NotYet:
                if self.client.status not in ("running", "connecting"):
                    raise BackendUnavailable("the scheduler of the Dask cluster is gone") from None
                if self.client.nthreads():
                    alive = time.monotonic()
                elif time.monotonic() - alive > PATIENCE:
                    raise BackendUnavailable("the Dask cluster has no workers any more; start some") from None
                continue
            except CancelledError:
                pass  # of those whose images died with a worker
            alive = time.monotonic()
            yield from [one for one in pending if one.status in ("finished", "error", *_LOST)]

    def _images(self, images: Sequence[NDArray[Any]]) -> tuple[Future[Any], ...]:
        """Return the images as they are on the cluster, sent there at first use and where they were lost."""
        if not self._sent or any(one.status in _LOST for one in self._sent):
            try:
                self._sent = tuple(
                    self.client.scatter(list(map(np.ascontiguousarray, images)), hash=False, timeout=PATIENCE)
                )
            except (OSError, TimeoutError) as error:
                reason = " ".join(str(error).split())
                raise BackendUnavailable(f"no worker of the Dask cluster takes images: {reason}") from None
        return self._sent


@contextmanager
def candidates_of(spec: str | None, backend: str) -> Iterator[Candidates | None]:
    """Give what `--cluster` names, None for this process; errors are those of `open_cluster`."""
    if spec is None:
        yield None
        return
    with open_cluster(spec) as client:
        yield Candidates(client, backend)


def _outcome(future: Future[Any]) -> tuple[ArchitectureScores | None, BaseException | None]:
    """Return the scores, or the fault; neither, where workers were lost: for good, if the future is an error."""
    from distributed import CancelledError, KilledWorker

    try:
        return future.result(timeout=PATIENCE), None
    except KilledWorker:  # as often as the scheduler tries
        return None, None
    except Exception as error:
        lost = future.status != "error" and isinstance(error, (CancelledError, OSError, TimeoutError, KeyError))
        return None, None if lost else error


def _scored(
    architecture: str,
    settings: Mapping[str, Any],
    x: NDArray[Any],
    y: NDArray[Any],
    x_holdout: NDArray[Any],
    y_holdout: NDArray[Any],
) -> ArchitectureScores:
    """Score an architecture on a worker."""
    from nas_cntk.architecture import Architecture
    from nas_cntk.scoring import score_family

    return score_family([Architecture.from_json(architecture)], x, y, x_holdout, y_holdout, **settings)[0]
