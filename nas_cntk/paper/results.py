"""docs/results.md, from what is recorded: tables, plots, machines, command lines, and where ours differs and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nas_cntk.errors import RecordsError
from nas_cntk.files import write_file
from nas_cntk.paper.columns import Size
from nas_cntk.paper.kept import NAME, joined, read_cells, to_json
from nas_cntk.paper.plot import png
from nas_cntk.paper.rows import DIVERGED, DONE, Row
from nas_cntk.paper.tables import KNOWN, blocks
from nas_cntk.records import paper
from nas_cntk.records.migrations import open_records
from nas_cntk.records.paper import PaperCell
from nas_cntk.report import text

TITLES = {
    "table1": "Table 1: CNNs and exact kernels",
    "table2": "Table 2: exact kernels and random features",
    "theorem1": "Theorem 3.1: kernels of random nets",
    "theorem2": "Theorem 3.2: trained nets and kernel regression",
    "gp": "Weakly and fully trained",
}

# Where ours differs, and why; shown with an experiment that is recorded.
WHY: Mapping[str, Sequence[str]] = {
    "table1": (
        "Kernels are regressed without ridge on images standardised per channel, with targets -0.1 and 0.9. The paper"
        " does not say how it scales pixels; exact kernels leave nothing else to choose.",
        "A CNN is the one that a tenth of the training images chooses from the grid of learning rate, width and kappa."
        ' The paper has "the best performance among all hyperparameters", which is on the test images, and names'
        " neither its grid nor its epochs.",
    ),
    "table2": (
        "Random features are the gradients of one random net with one output, in the parameterisation of the kernel;"
        " the median of several nets counts, as in the paper. The gain of the exact kernel is over the net, or the two"
        " nets, that the median is made of, on the same test images.",
    ),
    "theorem1": (
        "Distances are relative, in the Frobenius norm, between few images, in the mean over random nets. Narrow nets"
        " have a bias of order 1/width beside the fluctuations of order width^(-1/2).",
    ),
    "theorem2": (
        "A net begins at kappa f(x), and kernel regression at 0: at a large kappa that part of the distance stays"
        " however wide the net is. A small kappa asks for a wide net, since the weights must move further: width and"
        " kappa must go together, as the theorem has it.",
    ),
    "gp": ("The paper prints no such table, so no figure stands beside.",),
}


def write_results(db: str, folder: Path) -> list[Path]:
    """Write results.md and its plots into a folder, a section an experiment and dataset.

    Its cells are kept beside the plots, in results/cells.json; those that are there already, from this database or
    another machine's, stay on the page. So does what somebody wrote below its last line.

    Raises:
        RecordsError: if nothing is recorded, there is a page that cannot be read or whose cells are not kept, or a
            file cannot be written.
    """
    records = open_records(db, write=False)
    try:
        found = paper.cells(records)
    finally:
        records.close()
    if folder.exists() and not folder.is_dir():
        raise RecordsError(f"{folder} is a file; name a folder for results.md and its plots")
    path, kept = folder / "results.md", folder / "results" / NAME
    if path.exists() and not kept.exists():
        raise RecordsError(f"{path} is there without {kept}, and what is on it would be lost; move it away")
    found, by_hand = joined(read_cells(kept), found), _below(path)
    if not found:
        raise RecordsError(f"database {db} holds no result of the paper yet; run `nas-cntk paper table1`")
    files, parts = [kept], [_HEAD]
    _save(kept, to_json(found).encode())
    for name, title in TITLES.items():
        of_one = [(cell, row) for cell in found if cell.experiment == name and (row := stored_row(cell)) is not None]
        datasets = list(dict.fromkeys(str(cell.details.get("data_name", "")) for cell, _ in of_one))
        for dataset in datasets:
            chosen = [(cell, row) for cell, row in of_one if str(cell.details.get("data_name", "")) == dataset]
            rows = _ordered([row for _, row in chosen])
            picture = folder / "results" / f"{name}{'-' + dataset if dataset else ''}.png"
            _save(picture, png(name, rows))
            files.append(picture)
            parts += _section(f"{title}, {dataset}" if dataset else title, name, rows, [c for c, _ in chosen], picture)
    _save(path, ("\n\n".join([*parts, _END]) + by_hand).encode())
    return [path, *files]


def _below(path: Path) -> str:
    """Return what somebody wrote below the last line of a page."""
    try:
        return path.read_text(encoding="utf-8").partition(_END)[2] or "\n"
    except FileNotFoundError:
        return "\n"
    except (OSError, ValueError) as error:
        raise RecordsError(f"{path} cannot be read: {error}; move it away") from None


def _save(path: Path, content: bytes) -> None:
    write_file(path, lambda file: file.write(content))


_HEAD = (
    "# Results\n\n"
    "Written by `nas-cntk paper results`; of what is written by hand only what stands below its last line is kept. The"
    " results of Arora, Du, Hu, Li, Salakhutdinov and Wang, *On Exact Computation with an Infinitely Wide Neural Net*"
    " (2019), recomputed. Depth counts all layers. A column's head has the numbers of training and test images; the"
    " paper's figure stands beside where they are the paper's. Standard errors are binomial, in points, and those of"
    " distances over random nets."
)
_END = "<!-- The end of what `nas-cntk paper results` writes. What follows is kept. -->"


def stored_row(cell: PaperCell) -> Row | None:
    """Return the row of a recorded cell; None if its column is no longer known."""
    column = next((one for one in KNOWN.get(cell.experiment, ()) if one.name == cell.column), None)
    side = cell.details.get("side")
    if column is None or not isinstance(side, int):
        return None
    figure = column.figure(cell.depth) if cell.details.get("is_papers") is True else None
    diverged = cell.accuracy is None and cell.details.get("diverged") is True
    return Row(
        cell.experiment,
        cell.column,
        cell.depth,
        Size(side, cell.train, cell.test),
        DIVERGED if diverged else DONE,
        cell.accuracy,
        figure,
        cell.stderr,
        cell.seconds,
        details=cell.details,
    )


def _ordered(rows: Sequence[Row]) -> list[Row]:
    """Return rows in the paper's order; of runs of equal cells with other seeds or draws the newest."""
    newest: dict[tuple[object, ...], Row] = {}
    for row in rows:
        newest[row.column, row.size, row.depth, row.number("kappa"), row.number("width")] = row
    known = [column.name for column in KNOWN[rows[0].experiment]]

    def place(row: Row) -> tuple[float, ...]:
        size = row.size
        kappa, width = row.number("kappa") or 0.0, row.number("width") or 0.0
        return known.index(row.column), -size.train, -size.side, -size.test, row.depth, -kappa, width

    return sorted(newest.values(), key=place)


def _section(title: str, name: str, rows: Sequence[Row], cells: Sequence[PaperCell], picture: Path) -> list[str]:
    parts = [f"## {title}", f"![{title}](results/{picture.name})"]
    for head, names, lines, below in blocks(rows):
        parts.append(f"**{head}**")
        table = [f"| {' | '.join(names)} |", f"|{' ---: |' * len(names)}"]
        table += [f"| {' | '.join(line)} |" for line in lines]
        parts.append("\n".join(table))
        parts += below
    parts += [*WHY[name]]
    for machine in dict.fromkeys(str(cell.details.get("machine", "")) for cell in cells):
        of_one = [cell for cell in cells if str(cell.details.get("machine", "")) == machine]
        commands = dict.fromkeys(str(cell.details.get("command", "")) for cell in of_one)
        seconds = sum(cell.seconds for cell in of_one)
        parts.append(f"Computed on {machine}, in {text.duration(seconds)} of all cells, by")
        parts.append("```\n" + "\n".join(commands) + "\n```")
    return parts
