"""Verdicts as a picture: how well every score ranks, and the first one against the trained accuracies."""

from __future__ import annotations

import importlib.util
import io

import numpy as np

from nas_cntk.benchmark.judge import SIZES, Result
from nas_cntk.errors import BackendUnavailable
from nas_cntk.scores import SCORES

DPI = 130


def require_matplotlib() -> None:
    """Refuse before anything is computed.

    Raises:
        BackendUnavailable: if matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise BackendUnavailable(
            "plots need matplotlib, which is not installed: pip install 'nas-cntk[report]', or add --no-plot"
        )


def png(result: Result, target: str) -> bytes:
    """Return the plot as a PNG file.

    Raises:
        BackendUnavailable: if matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    verdicts = [v for v in result.verdicts if v.figures["spearman"] is not None]
    verdicts.sort(key=lambda v: v.figures["spearman"] or 0.0)
    figure = Figure(figsize=(12.0, max(4.0, 0.28 * len(verdicts) + 1.5)), layout="constrained")
    FigureCanvasAgg(figure)
    bars, points = figure.subplots(1, 2)
    for at, verdict in enumerate(verdicts):
        value = verdict.figures["spearman"] or 0.0
        interval = verdict.intervals["spearman"] or (value, value)
        bars.plot(interval, (at, at), color="#1f77b4", linewidth=2)
        bars.plot(value, at, "o", color="#1f77b4")
    bars.set_yticks(range(len(verdicts)), [verdict.name for verdict in verdicts])
    bars.set_xlabel(f"Spearman correlation with {target}, 95 % interval")
    bars.set_title(f"{len(result.cells)} {result.what} of NAS-Bench-201", fontsize=11)
    bars.grid(True, axis="x", alpha=0.25)
    name = next((v.name for v in result.verdicts if v.name in result.scores), None)
    if name is not None:
        values, targets = result.scores[name], np.array([cell.target for cell in result.cells])
        convs = np.array([cell.convs for cell in result.cells])
        drawn = points.scatter(values, targets, c=convs, cmap="viridis", s=14, vmin=0, vmax=6)
        figure.colorbar(drawn, ax=points, label="convs in the cell")
        points.set_xlabel(name + ("" if name in SIZES or SCORES[name].direction == "maximize" else " (less is better)"))
        points.set_ylabel(target)
        points.grid(True, alpha=0.25)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()
