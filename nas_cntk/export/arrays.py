"""Arrays in safetensors: no pickle, nothing but numbers and names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_cntk.errors import ModelError


def write_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the content of a safetensors file."""
    from safetensors.numpy import save

    # Not ascontiguousarray, which makes vectors of scalars.
    return save({name: np.require(array, requirements="C") for name, array in arrays.items()})


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a safetensors file by name.

    Raises:
        ModelError: if it is missing, truncated or no such file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise ModelError(f"{path} is damaged (no regular file); export the model again")
    try:
        return load_file(path)
    except FileNotFoundError:
        raise ModelError(f"{path.parent} has no {path.name}; export the model again") from None
    except MemoryError:
        raise ModelError(f"{path} does not fit into memory") from None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:120]
        raise ModelError(f"{path} is damaged ({reason}); export the model again") from None
