"""`nas-cntk paper`: the results of Arora et al. 2019 beside the printed figures."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from nas_cntk.commands.options import Cluster, Data, Db, Download, Json
from nas_cntk.commands.output import SETTINGS, console_of, print_next
from nas_cntk.report import text
from nas_cntk.report.text import DEFAULT_DB

app = typer.Typer(
    help="Recompute the results of Arora et al. 2019 beside the paper's figures.",
    epilog="Example: nas-cntk paper table1 --columns CNTK-V-2K --data cifar10:cifar-10-batches-py",
    **SETTINGS,
)

Depths = Annotated[str | None, typer.Option(help="Depths, all layers counted, comma-separated; the paper's at first.")]
Columns = Annotated[str | None, typer.Option(help="Columns, comma-separated; all if not given.")]
Train = Annotated[int | None, typer.Option(min=1, help="Use the first N training images.")]
Test = Annotated[int | None, typer.Option(min=1, help="Use the first N test images.")]
ImageSize = Annotated[int | None, typer.Option(min=1, help="Average images down to N x N pixels.")]
Full = Annotated[bool, typer.Option("--full", help="The paper's own sizes; days for some columns.")]
Backend = Annotated[str, typer.Option(help="Kernel backend: auto, cpu, cuda or reference.")]
Devices = Annotated[
    str, typer.Option(help="Where networks run: auto, cpu, mps, cuda, or cuda:0,cuda:1, which kernels use too.")
]
MaxSeconds = Annotated[
    float | None, typer.Option(min=1e-6, max=1e9, help="Leave out columns predicted to take longer.")
]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of everything random.")]
Seeds = Annotated[int | None, typer.Option(min=2, max=10_000, help="Random nets for each point.")]
Widths = Annotated[str | None, typer.Option(help="Widths, comma-separated.")]
NoPlot = Annotated[bool, typer.Option("--no-plot", help="Draw nothing; needs no matplotlib.")]


@app.command(epilog="Example: nas-cntk paper table1 --columns CNTK-V-2K --data cifar10:cifar-10-batches-py")
def table1(
    data: Data = "digits",
    columns: Columns = None,
    depths: Depths = None,
    train: Train = None,
    test: Test = None,
    image_size: ImageSize = None,
    full: Full = False,
    epochs: Annotated[int | None, typer.Option(min=1, max=100_000, help="Epochs of a CNN; 5, or 100 if full.")] = None,
    width: Annotated[int | None, typer.Option(min=2, max=8192, help="Channels of the widest CNN; 32, or 128.")] = None,
    max_seconds: MaxSeconds = None,
    seed: Seed = 0,
    backend: Backend = "auto",
    cluster: Cluster = None,
    devices: Devices = "auto",
    download: Download = False,
    no_plot: NoPlot = False,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> None:
    """Table 1: CNNs and exact kernels by depth.

    Columns CNN-V, CNTK-V, CNTK-V-2K, CNN-GAP, CNTK-GAP, CNTK-GAP-2K. A finished cell is never computed again: the
    same command goes on after Ctrl-C or a kill. The paper's figure stands beside columns of the paper's size.
    """
    options = _common(data, depths, train, test, image_size, full, max_seconds, seed, backend, devices, download)
    options |= {"columns": _names(columns), "epochs": epochs, "width": width, "cluster": cluster}
    _run(("table1",), db, options, as_json, no_plot)


@app.command(epilog="Example: nas-cntk paper table2 --train 200 --test 200 --draws 5")
def table2(
    data: Data = "digits",
    columns: Columns = None,
    depths: Depths = None,
    train: Train = None,
    test: Test = None,
    image_size: ImageSize = None,
    full: Full = False,
    draws: Annotated[int | None, typer.Option(min=1, max=1000, help="Random nets, of which the median; 10.")] = None,
    channels: Annotated[int | None, typer.Option(min=1, max=8192, help="Channels of the random nets; 128.")] = None,
    max_seconds: MaxSeconds = None,
    seed: Seed = 0,
    backend: Backend = "auto",
    cluster: Cluster = None,
    devices: Devices = "auto",
    download: Download = False,
    no_plot: NoPlot = False,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> None:
    """Table 2: exact kernels and random features, two classes.

    Columns RF-V, CNTK-V, RF-GAP, CNTK-GAP on the first two classes. Random features are the gradients of a random
    net; the median accuracy of several nets counts.
    """
    options = _common(data, depths, train, test, image_size, full, max_seconds, seed, backend, devices, download)
    options |= {"columns": _names(columns), "draws": draws, "channels": channels, "cluster": cluster}
    _run(("table2",), db, options, as_json, no_plot)


@app.command(epilog="Example: nas-cntk paper theorem1 --columns FC --widths 64,256,1024,4096")
def theorem1(
    data: Data = "digits",
    columns: Columns = None,
    depths: Depths = None,
    widths: Widths = None,
    seeds: Seeds = None,
    train: Train = None,
    image_size: ImageSize = None,
    full: Full = False,
    max_seconds: MaxSeconds = None,
    seed: Seed = 0,
    backend: Backend = "auto",
    devices: Devices = "auto",
    download: Download = False,
    no_plot: NoPlot = False,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> None:
    """Theorem 3.1: empirical kernels of random nets approach the exact one.

    Columns FC, CNN-V, CNN-GAP: relative distance of the kernels between the first images, over the width, with the
    slope in a log-log plot; the theory says -1/2.
    """
    from nas_cntk.paper.wishes import parse_widths

    options = _common(data, depths, train, None, image_size, full, max_seconds, seed, backend, devices, download)
    options |= {"columns": _names(columns), "widths": parse_widths(widths), "seeds": seeds}
    _run(("theorem1",), db, options, as_json, no_plot)


@app.command(epilog="Example: nas-cntk paper theorem2 --widths 64,256,1024 --kappas 1,0.3,0.1")
def theorem2(
    data: Data = "digits",
    depths: Depths = None,
    widths: Widths = None,
    kappas: Annotated[str | None, typer.Option(help="Factors of the output, comma-separated; 1,0.3,0.1.")] = None,
    seeds: Seeds = None,
    train: Train = None,
    test: Test = None,
    image_size: ImageSize = None,
    full: Full = False,
    max_seconds: MaxSeconds = None,
    seed: Seed = 0,
    backend: Backend = "auto",
    devices: Devices = "auto",
    download: Download = False,
    no_plot: NoPlot = False,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> None:
    """Theorem 3.2: trained wide nets predict what kernel regression does.

    Fully connected nets, trained by gradient descent to near zero loss on images of two classes: the distance of
    their predictions from those of the exact kernel, over the width, for several kappa.
    """
    from nas_cntk.paper.wishes import parse_kappas, parse_widths

    options = _common(data, depths, train, test, image_size, full, max_seconds, seed, backend, devices, download)
    options |= {"widths": parse_widths(widths), "kappas": parse_kappas(kappas), "seeds": seeds}
    _run(("theorem2",), db, options, as_json, no_plot)


@app.command(epilog="Example: nas-cntk paper gp --columns GP-V,CNTK-V --depths 3,6")
def gp(
    data: Data = "digits",
    columns: Columns = None,
    depths: Depths = None,
    train: Train = None,
    test: Test = None,
    image_size: ImageSize = None,
    full: Full = False,
    max_seconds: MaxSeconds = None,
    seed: Seed = 0,
    backend: Backend = "auto",
    cluster: Cluster = None,
    download: Download = False,
    no_plot: NoPlot = False,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> None:
    """Kernels of weakly trained nets beside those of fully trained ones.

    Columns GP-V, CNTK-V, GP-GAP, CNTK-GAP: only the last layer trained (GP), or all (CNTK), from one pass. The paper
    prints no such table.
    """
    options = _common(data, depths, train, test, image_size, full, max_seconds, seed, backend, "auto", download)
    options |= {"cluster": cluster}
    _run(("gp",), db, options | {"columns": _names(columns)}, as_json, no_plot)


@app.command("all", epilog="Example: nas-cntk paper all --data cifar10:cifar-10-batches-py")
def everything(
    data: Data = "digits",
    depths: Depths = None,
    train: Train = None,
    test: Test = None,
    image_size: ImageSize = None,
    full: Full = False,
    max_seconds: MaxSeconds = None,
    seed: Seed = 0,
    backend: Backend = "auto",
    cluster: Cluster = None,
    devices: Devices = "auto",
    download: Download = False,
    no_plot: NoPlot = False,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> None:
    """All of them, one after the other.

    Everything is predicted first. Cells that one of the other commands has finished are not computed again.
    Depths and numbers of images are those of the tables.
    """
    options = _common(data, depths, train, test, image_size, full, max_seconds, seed, backend, devices, download)
    options |= {"cluster": cluster}
    _run(("table1", "table2", "theorem1", "theorem2", "gp"), db, options, as_json, no_plot)


@app.command(epilog="Example: nas-cntk paper results --to docs")
def results(
    to: Annotated[str, typer.Option("--to", metavar="DIR", help="Folder of results.md and its plots.")] = "docs",
    db: Db = DEFAULT_DB,
) -> None:
    """Write what is recorded as a page: results.md with tables, plots, machines and command lines.

    Cells that another database gave the page stay on it: they are kept in results/cells.json beside the plots.
    """
    from pathlib import Path

    from nas_cntk.paper.results import write_results

    files = write_results(db, Path(to))
    console = console_of()
    console.print(f"wrote {', '.join(map(_shown, files))}", markup=False, soft_wrap=True)
    print_next(console, text.command("paper", "all", db=db))


def _common(
    data: str,
    depths: str | None,
    train: int | None,
    test: int | None,
    image_size: int | None,
    full: bool,
    max_seconds: float | None,
    seed: int,
    backend: str,
    devices: str,
    download: bool,
) -> dict[str, Any]:
    from nas_cntk.paper.wishes import parse_depths

    return {
        "data": data,
        "depths": parse_depths(depths),
        "train": train,
        "test": test,
        "image_size": image_size,
        "full": full,
        "max_seconds": max_seconds,
        "seed": seed,
        "backend": backend,
        "devices": devices,
        "download": download,
    }


def _names(columns: str | None) -> tuple[str, ...]:
    return tuple(columns.split(",")) if columns else ()


def _run(names: tuple[str, ...], db: str, options: dict[str, Any], as_json: bool, no_plot: bool) -> None:
    from rich.text import Text

    from nas_cntk.paper import session
    from nas_cntk.paper.rows import to_json
    from nas_cntk.paper.tables import tables
    from nas_cntk.paper.view import PaperView
    from nas_cntk.paper.wishes import Wishes

    console = console_of(stderr=as_json)
    with PaperView(console, db) as view:
        ended = session.run(names, db, Wishes(**options), view, plots=not no_plot)
    if as_json and not ended.interrupted:
        print(to_json([row for rows in ended.rows.values() for row in rows]))
        return
    for name, rows in ended.rows.items():
        console.print()
        if len(ended.rows) > 1:
            console.print(Text(name, style="bold underline"))
        console.print(tables(rows))
    console.print()
    if ended.interrupted:
        console.print("interrupted; finished cells are kept, and the same command goes on", markup=False)
        raise KeyboardInterrupt
    console.print(f"wrote {', '.join(map(_shown, ended.files))}", markup=False, soft_wrap=True)
    print_next(console, text.command("paper", "results", "--to", "docs", db=db))


def _shown(path: object) -> str:
    import os

    relative = os.path.relpath(str(path))
    return relative if len(relative) < len(str(path)) else str(path)
