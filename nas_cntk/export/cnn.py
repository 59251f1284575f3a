"""A finite network as a model: its code checked against the network it stands for, its weights read back and asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nas_cntk.architecture import Architecture
from nas_cntk.errors import ModelError, UsageError
from nas_cntk.export.arrays import read_arrays, write_arrays
from nas_cntk.export.manifest import WEIGHTS, Manifest, Network
from nas_cntk.regression import Float

if TYPE_CHECKING:
    import torch

AT_A_TIME = 256  # images in one batch
AGREEMENT = 1e-6  # of the exported code with the network it stands for, relative to the largest score
MOST_COPIES = 4  # of the weights, that building and checking a network takes


def build_network(
    architecture: Architecture, image_shape: tuple[int, int, int], num_classes: int, about: Network
) -> Any:
    """Return the network with random weights, in evaluation mode.

    Raises:
        UsageError: if its weights do not fit into memory.
        BackendUnavailable: without torch.
    """
    from nas_cntk.kernels.budget import available_memory
    from nas_cntk.validate.standard import standard_network

    count = architecture.count_parameters(image_shape, num_classes, about.width)
    if MOST_COPIES * 4 * count > available_memory():
        raise UsageError(
            f"a network of {count:,} weights at width {about.width} does not fit into memory;"
            " take an architecture with smaller windows"
        )
    network = standard_network(
        architecture, image_shape, num_classes, width=about.width, batch_norm=about.batch_norm, seed=0
    )
    return network.eval()


def load_state(network: Any, weights: Mapping[str, NDArray[Any]], path: Path) -> None:
    """Fill a network with weights.

    Raises:
        ModelError: if they are those of another network, or not finite; `path` is where they come from.
    """
    import torch

    state = network.state_dict()
    for name, tensor in state.items():
        array = weights.get(name)
        if array is None:
            raise ModelError(f"{path} has no {name}, which the architecture needs; export the model again")
        if tuple(array.shape) != tuple(tensor.shape):
            raise ModelError(
                f"{path} has {name} of shape {tuple(array.shape)}, the architecture needs {tuple(tensor.shape)};"
                " export the model again"
            )
        if not np.isfinite(array).all():
            raise ModelError(f"{path} has {name} that is not finite; export the model again")
    extra = sorted(set(weights) - set(state))
    if extra:
        raise ModelError(f"{path} has {extra[0][:60]!r}, of which the architecture knows nothing; export it again")
    network.load_state_dict({name: torch.from_numpy(np.array(weights[name])) for name in state})


def load_network(folder: Path, manifest: Manifest, architecture: Architecture) -> Any:
    """Return the network in a folder, in evaluation mode; its model.py is not run.

    Raises:
        ModelError: if its weights are missing, damaged, or those of another network.
    """
    about = manifest.model
    assert isinstance(about, Network)
    if about.recipe is None:
        trial = manifest.origin.get("trial", "N")
        raise ModelError(
            f"the network in {folder} is not trained; run `nas-cntk validate {trial}`, then export it again"
        )
    path = folder / WEIGHTS
    weights = read_arrays(path)
    network = build_network(architecture, manifest.image_shape, len(manifest.classes), about)
    load_state(network, weights, path)
    return network


def predict_network(network: Any, x: NDArray[np.float32]) -> Float:
    """Return the probabilities (softmax) of the classes, shape (m, classes), for standardised images."""
    return softmax(outputs(network, x))


def outputs(network: Any, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the outputs of a network, shape (m, classes), for standardised images, shape (m, h, w, c)."""
    import torch

    found = []
    with torch.no_grad():
        for start in range(0, len(x), AT_A_TIME):
            batch = np.ascontiguousarray(x[start : start + AT_A_TIME].transpose(0, 3, 1, 2))
            found.append(network(torch.from_numpy(batch)).numpy())
    return np.concatenate(found)


def softmax(scores: NDArray[np.float32]) -> Float:
    """Return the probabilities that outputs stand for, in float64."""
    powers: Float = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def pack(network: torch.nn.Module) -> bytes:
    """Return the content of weights.safetensors: the state_dict, names as they are."""
    return write_arrays({name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()})


def check_source(source: str, network: Any, x: NDArray[np.float32]) -> None:
    """Make sure that the text of model.py is the network: same names, same outputs on standardised images `x`."""
    import torch

    namespace: dict[str, Any] = {}
    exec(compile(source, "model.py", "exec"), namespace)
    with torch.random.fork_rng(devices=[]):  # its constructor draws weights
        written = namespace["Network"]()
    written.load_state_dict(network.state_dict())
    frozen = {name: weight.requires_grad for name, weight in network.named_parameters()}
    assert frozen == {name: weight.requires_grad for name, weight in written.named_parameters()}
    ours, theirs = outputs(network, x), outputs(written.eval(), x)
    assert _apart(ours, theirs) <= AGREEMENT, f"model.py and the network differ by {_apart(ours, theirs):.1e}"


def _apart(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(np.abs(a - b).max() / max(1.0, float(np.abs(a).max())))
