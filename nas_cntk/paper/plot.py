"""An experiment's rows as a picture: accuracy over depth, or distance over width."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nas_cntk.errors import BackendUnavailable
from nas_cntk.paper.rows import DONE, Row
from nas_cntk.paper.series import fit_slope, series
from nas_cntk.paper.tables import head

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 130
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#7f7f7f")


def png(name: str, rows: Sequence[Row]) -> bytes:
    """Return the plot of an experiment as a PNG file.

    Raises:
        BackendUnavailable: if matplotlib is not installed.
    """
    buffer = io.BytesIO()
    draw(name, rows).savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def draw(name: str, rows: Sequence[Row]) -> Figure:
    """Return the plot of an experiment; columns of the paper's size have a panel of their own.

    Raises:
        BackendUnavailable: if matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise BackendUnavailable(
            "plots need matplotlib, which is not installed: pip install 'nas-cntk[report]'"
        ) from None
    figure = Figure(figsize=(8.0, 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    theorem = name.startswith("theorem")
    parts = [("", rows)] if theorem else _by_size(rows)
    panels = figure.subplots(1, len(parts), sharey=True, squeeze=False)[0]
    for axes, (words, of_part) in zip(panels, parts, strict=True):
        if theorem:
            _distances(axes, name, of_part)
        else:
            _accuracies(axes, of_part, rows)
        axes.set_title(words, fontsize=9)
        axes.grid(True, which="both", alpha=0.25)
        axes.label_outer()
    figure.suptitle(TITLES[name], fontsize=11)
    shown = [pair for axes in panels for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
    shown.sort(key=lambda pair: (pair[1].split(":")[0], "the paper" in pair[1]))
    handles, labels = [handle for handle, _ in shown], [label for _, label in shown]
    figure.legend(handles, labels, fontsize=8, loc="outside lower center", ncols=1 if len(labels) < 4 else 2)
    return figure


TITLES = {
    "table1": "Test accuracy by depth: CNNs and exact kernels (Table 1)",
    "table2": "Two classes: exact kernels and random features (Table 2)",
    "gp": "Only the last layer trained (GP) and all layers trained (CNTK)",
    "theorem1": "Empirical NTK of finite nets: distance from the exact one (Theorem 3.1)",
    "theorem2": "Trained nets: distance from the kernel regression (Theorem 3.2)",
}


def _by_size(rows: Sequence[Row]) -> list[tuple[str, Sequence[Row]]]:
    """Return panels: columns of the paper's size, and those on fewer images, which must not be compared with them."""
    printed = {(row.column, row.size) for row in rows if row.paper is not None}
    papers = [row for row in rows if (row.column, row.size) in printed]
    fewer = [row for row in rows if (row.column, row.size) not in printed]
    if not papers or not any(row.state == DONE for row in fewer):
        return [("", rows)]
    return [("on the paper's images", papers), ("on fewer or smaller images", fewer)]


def _accuracies(axes: Axes, rows: Sequence[Row], everything: Sequence[Row]) -> None:
    colours = list(dict.fromkeys((row.column, row.size) for row in everything))
    for name, size in dict.fromkeys((row.column, row.size) for row in rows):
        colour = COLOURS[colours.index((name, size)) % len(COLOURS)]
        of_column = [row for row in rows if (row.column, row.size) == (name, size)]
        done = [row for row in of_column if row.state == DONE and row.accuracy is not None]
        if done:
            axes.errorbar(
                [row.depth for row in done],
                [100 * (row.accuracy or 0.0) for row in done],
                yerr=[100 * (row.standard_error or 0.0) for row in done],
                color=colour,
                marker="o",
                markersize=4,
                capsize=2,
                linewidth=1.2,
                label=head(of_column),
            )
        printed = [row for row in of_column if row.paper is not None]
        if printed:
            depths, figures = [row.depth for row in printed], [100 * (row.paper or 0.0) for row in printed]
            axes.plot(depths, figures, color=colour, marker="x", linestyle=":", label=f"{name}: the paper")
    depths = sorted({row.depth for row in rows})
    axes.set_xscale("log")
    axes.set_xticks(depths, [str(depth) for depth in depths])
    axes.minorticks_off()
    axes.set_xlabel("depth (all layers counted)")
    axes.set_ylabel("test accuracy, %")


def _distances(axes: Axes, name: str, rows: Sequence[Row]) -> None:
    widths: set[int] = set()
    for number, curve in enumerate(series(rows)):
        done = [row for row in curve.rows if row.state == DONE and row.number("distance")]
        if not done:
            continue
        colour = COLOURS[number % len(COLOURS)]
        x = [row.number("width") or 1.0 for row in done]
        y = [row.number("distance") or 0.0 for row in done]
        error = [row.number("distance_error") or 0.0 for row in done]
        widths |= {int(one) for one in x}
        fitted = fit_slope(done)
        slope = f", slope {fitted[0]:.2f} ± {fitted[1]:.2f}" if fitted is not None and name == "theorem1" else ""
        style: dict[str, Any] = {"marker": "o", "markersize": 4, "capsize": 2, "linewidth": 1.2}
        axes.errorbar(x, y, yerr=error, color=colour, label=curve.title + slope, **style)
        if name == "theorem1":
            guide = [y[0] * (x[0] / one) ** 0.5 for one in x]
            axes.plot(x, guide, color=colour, linestyle=":", linewidth=1, label="slope -1/2" if not number else None)
    axes.set_xscale("log")
    axes.set_yscale("log")
    if widths:
        axes.set_xticks(sorted(widths), [str(width) for width in sorted(widths)])
    low, high = axes.get_ylim()
    ticks = [m * 10.0**e for e in range(-8, 4) for m in (1, 2, 3, 5) if low <= m * 10.0**e <= high]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("width (channels of every layer)")
    axes.set_ylabel(
        "relative distance of the kernels" if name == "theorem1" else "distance of the predictions (root mean square)"
    )
