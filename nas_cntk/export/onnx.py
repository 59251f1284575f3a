"""model.onnx: the network as an ONNX graph, left only where onnxruntime agrees with torch."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_cntk.errors import BackendUnavailable, ModelError
from nas_cntk.export.cnn import outputs

AGREEMENT = 1e-5  # relative to the largest score
INPUT, OUTPUT = "images", "scores"
BATCH = 4  # images of the example that is traced; its number stays free


def check_installed() -> None:
    """Raise BackendUnavailable where something that writes or checks ONNX is missing."""
    from importlib.util import find_spec

    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise BackendUnavailable(f"--onnx needs {', '.join(missing)}, not installed; install nas-cntk[onnx]")


def onnx_model(network: Any, x: NDArray[np.float32]) -> bytes:
    """Return the content of model.onnx: input `images` (n, c, h, w), standardised; output `scores` (n, classes).

    Args:
        network: in evaluation mode.
        x: standardised images to compare on, shape (m, h, w, c).

    Raises:
        BackendUnavailable: if the onnx extra is not installed.
        ModelError: if the network cannot be written, or onnxruntime computes something else than torch.
    """
    check_installed()
    import torch

    channels = np.ascontiguousarray(np.resize(x, (BATCH, *x.shape[1:])).transpose(0, 3, 1, 2))
    example = torch.from_numpy(channels)
    try:
        with tempfile.TemporaryDirectory(prefix="nas-cntk-onnx-") as folder, _quietly():
            path = Path(folder) / "model.onnx"
            torch.onnx.export(
                network,
                (example,),
                path,
                dynamo=True,
                external_data=False,
                verbose=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("n")},),
            )
            content = _without_traces(path)
    except Exception as error:  # whatever an exporter of another library raises
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise ModelError(f"the network cannot be written as ONNX ({reason}); export it without --onnx") from None
    apart = compare(content, network, x)
    if not apart <= AGREEMENT:
        raise ModelError(
            f"onnxruntime and torch differ by {apart:.1e} on this network, more than {AGREEMENT:g};"
            " export it without --onnx"
        )
    return content


def compare(content: bytes, network: Any, x: NDArray[np.float32]) -> float:
    """Return the greatest difference of onnxruntime from torch, relative to the largest score."""
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    images = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    (found,) = session.run([OUTPUT], {INPUT: images})
    due = outputs(network, x)
    return float(np.abs(found - due).max() / max(1.0, float(np.abs(due).max())))


def _without_traces(path: Path) -> bytes:
    # The exporter notes at every node which lines of which files on this machine it came from.
    import onnx

    model = onnx.load(path)
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.functions):
        del part.metadata_props[:]
    content: bytes = model.SerializeToString()
    return content


@contextlib.contextmanager
def _quietly() -> Any:
    """Keep the exporter's own progress, advice and deprecations off the screen."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            log.setLevel(level)
