"""`nas-cntk benchmark`: scores judged by architectures whose trained accuracies are known."""

from __future__ import annotations

from typing import Annotated

import typer

from nas_cntk.commands.options import Db, Download, Json
from nas_cntk.commands.output import SETTINGS, console_of, print_next
from nas_cntk.report import text
from nas_cntk.report.text import DEFAULT_DB

_EXAMPLE = "nas-cntk benchmark nasbench201 --table cifar10.csv --data cifar10:cifar-10-batches-py"

app = typer.Typer(
    help="Judge scores by architectures whose trained accuracies are known.",
    epilog=f"Example: {_EXAMPLE}",
    **SETTINGS,
)


@app.callback()
def _benchmarks() -> None:
    """Judge scores by architectures whose trained accuracies are known."""


@app.command(epilog=f"Example: {_EXAMPLE}")
def nasbench201(
    table: Annotated[str, typer.Option(help="CSV with columns arch_str and the target.")],
    data: Annotated[str, typer.Option(help="Data: cifar10:PATH, or any other that search takes.")],
    target: Annotated[str, typer.Option(help="Column of the trained accuracy.")] = "cifar10_test_200ep",
    cells: Annotated[int, typer.Option(min=2, help="Cells to draw.")] = 300,
    distinct: Annotated[
        bool, typer.Option("--distinct", help="Count equal networks once: the smallest cell, the mean target.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the sample and of the split.")] = 0,
    score: Annotated[
        str | None, typer.Option("--score", help="Scores, comma-separated; all but short_training if not given.")
    ] = None,
    image_size: Annotated[int, typer.Option(min=1, help="Pixels a side of the images that kernels see.")] = 8,
    subset: Annotated[int, typer.Option(min=1, help="Images that kernels are fitted on.")] = 500,
    holdout: Annotated[int, typer.Option(min=1, help="Images that they are tested on.")] = 1000,
    cells_per_stage: Annotated[int, typer.Option(min=1, max=20, help="Cells a stage of the kernel's network.")] = 1,
    train_seconds: Annotated[
        float, typer.Option(min=1e-6, max=1e9, help="Short training ends after this many seconds, on fewer cells.")
    ] = 3600.0,
    backend: Annotated[str, typer.Option(help="Kernel backend: auto, cpu, cuda or reference.")] = "auto",
    download: Download = False,
    csv: Annotated[str | None, typer.Option(metavar="FILE", help="Write every cell's scores there.")] = None,
    plot: Annotated[str | None, typer.Option(metavar="FILE", help="Write the plot there; beside the database.")] = None,
    no_plot: Annotated[bool, typer.Option("--no-plot", help="Draw nothing; needs no matplotlib.")] = False,
    db: Db = DEFAULT_DB,
    as_json: Json = False,
) -> None:
    """How well scores rank cells of NAS-Bench-201 by their trained accuracy.

    Kernels see shrunk images; scores of finite networks see the benchmark's own network and the images as they are.
    Every score is computed on the same cells, and kept: the same command goes on after Ctrl-C or a kill, and one with
    more cells or scores computes only what is new.
    """
    from pathlib import Path

    from nas_cntk.benchmark import session
    from nas_cntk.benchmark.judge import SIZES, judge
    from nas_cntk.benchmark.tables import table as table_of
    from nas_cntk.benchmark.tables import to_csv, to_json
    from nas_cntk.benchmark.view import BenchmarkView
    from nas_cntk.benchmark.wishes import DEFAULT_SCORES, Wishes
    from nas_cntk.files import write_file
    from nas_cntk.records.database import locate
    from nas_cntk.scores import parse_scores

    names = DEFAULT_SCORES if score is None else tuple(kind.name for kind in parse_scores(score))
    wishes = Wishes(
        table=table,
        data=data,
        target=target,
        cells=cells,
        distinct=distinct,
        seed=seed,
        scores=names,
        image_size=image_size,
        subset=subset,
        holdout=holdout,
        cells_per_stage=cells_per_stage,
        backend=backend,
        train_seconds=train_seconds,
        download=download,
    )
    if not no_plot:
        from nas_cntk.benchmark.plot import require_matplotlib

        require_matplotlib()
    console = console_of(stderr=as_json)
    with BenchmarkView(console, db) as view:
        ended = session.run(db, wishes, view)
    if ended.interrupted:
        console.print("interrupted; what is measured is kept, and the same command goes on", markup=False)
        raise KeyboardInterrupt
    result = judge(ended)
    files = {}
    if csv is not None:
        files[Path(csv)] = to_csv(result).encode()
    if not no_plot:
        from nas_cntk.benchmark.plot import png

        location = locate(db).path
        where = Path(plot) if plot is not None else location.parent / f"{location.stem}-nasbench201.png"
        files[where] = png(result, target)
    for path, content in files.items():
        write_file(path, lambda file, content=content: file.write(content))  # type: ignore[misc]
    if as_json:
        print(to_json(ended, result))
        return
    console.print()
    console.print(table_of(result, console.width))
    console.print()
    if files:
        console.print(f"wrote {', '.join(map(str, files))}", markup=False, soft_wrap=True)
    useful = [v for v in result.verdicts if v.name in names and v.name not in SIZES]
    best = max(useful, key=lambda v: v.figures["spearman"] or -2.0, default=None)
    if best is not None:
        follow = text.command("search", "--space", "nasbench201", "--score", best.name, db=db)
        print_next(console, follow)
