"""One tree of errors that a user can act on.

    NasCntkError
    ├── ArchitectureError          text or graph that is no architecture
    │   └── IllegalArchitecture    a graph without an exact kernel, or one that does not fit the image
    ├── KernelError                arrays that no kernel can be computed from, a kernel that overflows
    │   ├── BackendUnavailable     a backend that was asked for and is not there
    │   └── UnsupportedByBackend   an architecture that this backend (only ``cuda``) does not compute
    ├── RegressionError            targets or kernels that no regression can be solved with
    ├── DataError                  a dataset that cannot be read, or does not hold what the split needs
    ├── SpaceError                 a search space that cannot be loaded or proposes nothing usable
    ├── StudyError                 a study that is unknown, or whose identity changed
    ├── ModelError                 a folder that holds no exported model, or a damaged one, or cannot be written
    ├── ConfigError                a file of options that cannot be read, or is no TOML
    ├── RecordsError               a database that is not ours, read-only, locked, full or too new
    └── UsageError                 options that contradict each other (exit code 2)

Every message says what is wrong, the value received, and what to do about it, in one line. Only
``nas_cntk.cli`` turns these into exit codes; a broken internal promise is an ``assert``.
"""

from __future__ import annotations


class NasCntkError(Exception):
    """Base of every error that a user can act on."""


class ArchitectureError(NasCntkError):
    """Text or a graph that is no architecture."""


class IllegalArchitecture(ArchitectureError):
    """A graph without an exact kernel, or one that does not fit the image."""


class KernelError(NasCntkError):
    """Arrays that no kernel can be computed from, or a kernel that overflows its dtype."""


class BackendUnavailable(KernelError):
    """A backend that was asked for and is not there."""


class UnsupportedByBackend(KernelError):
    """An architecture that this backend does not compute."""


class RegressionError(NasCntkError):
    """Targets or kernels that no regression can be solved with."""


class DataError(NasCntkError):
    """A dataset that cannot be read, or does not hold what the split needs."""


class SpaceError(NasCntkError):
    """A search space that cannot be loaded or proposes nothing usable."""


class StudyError(NasCntkError):
    """A study that is unknown, or whose identity changed."""


class ModelError(NasCntkError):
    """A folder that holds no exported model, a damaged one, or one that cannot be written."""


class ConfigError(NasCntkError):
    """A file of options that cannot be read, or is no TOML."""


class RecordsError(NasCntkError):
    """A database that is not ours, read-only, locked, full or too new."""


class UsageError(NasCntkError):
    """Options that contradict each other."""
