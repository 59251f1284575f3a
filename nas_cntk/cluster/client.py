"""A connection to a cluster: to a scheduler that runs somewhere, or to workers started on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from nas_cntk.errors import BackendUnavailable, UsageError

if TYPE_CHECKING:
    from distributed import Client

PATIENCE = 30  # seconds for a scheduler to answer
MOST_LOCAL = 1024


@contextmanager
def open_cluster(spec: str) -> Iterator[Client]:
    """Connect to the cluster that `--cluster` names; it ends, or goes on without us, with the block.

    Args:
        spec: the address of a scheduler, such as tcp://host:8786, or local:N for N processes on this machine, among
            which its threads are divided.

    Raises:
        UsageError: if it is neither.
        BackendUnavailable: if dask.distributed is not installed, nobody answers, or workers are of another version.
    """
    kind, colon, rest = spec.partition(":")
    if not colon or not rest or (kind == "local" and not (rest.isdecimal() and 1 <= int(rest) <= MOST_LOCAL)):
        raise UsageError(f"--cluster must be local:N or a scheduler's address such as tcp://host:8786, got {spec!r}")
    try:
        import distributed
    except ImportError:
        raise BackendUnavailable(
            "--cluster needs dask.distributed, which is not installed; install nas-cntk[cluster]"
        ) from None
    if kind == "local":
        with _local(int(rest)) as cluster, distributed.Client(cluster) as client:
            yield client
        return
    try:
        client = distributed.Client(spec, timeout=PATIENCE)
    except (OSError, ValueError, TimeoutError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise BackendUnavailable(f"no Dask scheduler answers at {spec} ({reason})") from None
    with client:
        check_workers(client, spec)
        yield client


def check_workers(client: Client, spec: str) -> None:
    """Refuse a cluster without workers, or with workers of another version of this package.

    Raises:
        BackendUnavailable: naming what is wrong.
    """
    from nas_cntk import __version__

    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError:
        raise BackendUnavailable(
            f"the Dask cluster at {spec} has no workers; start some (dask worker {spec})"
        ) from None
    for address, version in client.run(_version, on_error="return").items():
        if version != __version__:
            found = version if isinstance(version, str) else "none, or one that cannot be imported"
            raise BackendUnavailable(
                f"worker {address} has nas-cntk {found}, this is {__version__}; install the same everywhere"
            )


def _version() -> str:
    from nas_cntk import __version__

    return __version__


@contextmanager
def _local(count: int) -> Iterator[Any]:
    from distributed import LocalCluster

    from nas_cntk.kernels.backends import cpu

    threads = str(max(1, cpu.threads() // count))
    before = os.environ.get(cpu.THREADS)
    os.environ[cpu.THREADS] = threads  # which the workers inherit
    try:
        cluster = LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=40,
        )
        try:
            yield cluster
        finally:
            # After a worker was killed Dask stumbles over its name while it closes; the processes end all the same.
            with suppress(KeyError):
                cluster.close(timeout=PATIENCE)
    finally:
        if before is None:
            os.environ.pop(cpu.THREADS, None)
        else:
            os.environ[cpu.THREADS] = before
