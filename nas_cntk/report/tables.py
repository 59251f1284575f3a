"""Leaderboard, trial and studies as tables that fit 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nas_cntk.architecture import Architecture
from nas_cntk.records.studies import StudyRow
from nas_cntk.records.trials import Score
from nas_cntk.records.validations import Validation
from nas_cntk.report import text
from nas_cntk.report import ties as tie
from nas_cntk.report.describe import summary
from nas_cntk.report.rows import Directions, Row
from nas_cntk.report.tree import tree
from nas_cntk.scoring import standard_error

_WIDE = 100  # columns from which a board with validations has room for all
_NARROWEST = 12  # columns left for the last column, even where the others take all


def _table(columns: Sequence[str], lines: Sequence[Sequence[str]], width: int, styles: Sequence[str | None]) -> Table:
    """Return a table at most `width` wide: the last column is cut, the others are never; names in capitals as given.

    A column whose name ends in `>` is aligned to the right.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    names = [name.removesuffix(">") for name in columns]
    taken = sum(max(len(name), *(len(line[i]) for line in lines), 0) + 2 for i, name in enumerate(names[:-1]))
    room = max(_NARROWEST, width - taken - 2)
    for name, column in zip(names, columns, strict=True):
        table.add_column(name, justify="right" if column.endswith(">") else "left", no_wrap=True)
    for line, style in zip(lines, styles, strict=True):
        last = line[-1] if len(line[-1]) <= room else line[-1][: room - 1] + "…"
        table.add_row(*map(Text, (*line[:-1], last)), style=style)
    return table


def plain(columns: Sequence[str], lines: Sequence[Sequence[str]], width: int) -> Table:
    """Return a table without emphasis; see `_table`."""
    return _table(columns, lines, width, [None] * len(lines))


def leaderboard(
    rows: Sequence[Row],
    directions: Directions,
    architectures: dict[str, Architecture],
    width: int = 80,
    tied: frozenset[int] = frozenset(),
) -> Table:
    """Return the leaderboard; a PRUNED trial shows its reason where others show their architecture.

    The trials in `tied` are marked beside the score that ranks. Where something is validated the accuracies on the
    test set have columns, for which a narrow board leaves out parameters and time.
    """
    shown = [name for name in directions if name not in ("params", "flops")]  # those have columns of their own
    has_cnn = any(row.cnn_recipe is not None for row in rows)
    has_kernel = any(row.full_kernel_accuracy is not None for row in rows)
    roomy = width >= _WIDE or not (has_cnn or has_kernel)
    ranks = next(iter(directions))
    any_tied = any(row.trial in tied for row in rows)
    # Beside a score that is no accuracy, the accuracy that came with it says whether anything is learned at all.
    has_accuracy = bool(shown) and not any(name.endswith("accuracy") for name in shown) and roomy
    has_accuracy = has_accuracy and any(row.proxy_accuracy is not None for row in rows)
    beside = int(ranks in shown)  # the marks stand after the score that ranks, or before all where it is a size
    lines = []
    for place, row in enumerate(rows, start=1):
        complete = row.state == "COMPLETE"
        note = str(row.reason)
        if complete:
            note = summary(architectures[row.key]) if row.key in architectures else ""
            note = note if row.duplicate_of is None else f"= trial {row.duplicate_of}: {note}"
        lines.append(
            (
                str(place) if complete else "",
                str(row.trial),
                *(_score(row, name) for name in shown[:beside]),
                *([tie.MARK if row.trial in tied else ""] if any_tied else []),
                *(_score(row, name) for name in shown[beside:]),
                *([text.score("accuracy", row.proxy_accuracy)] if has_accuracy else []),
                *([_tested(row.cnn_recipe is not None, row.cnn_accuracy)] if has_cnn else []),
                *([_tested(row.full_kernel_accuracy is not None, row.full_kernel_accuracy)] if has_kernel else []),
                *([text.count(row.params)] if roomy else []),
                text.count(row.flops),
                *([text.duration(row.seconds) if complete and row.duplicate_of is None else "-"] if roomy else []),
                note,
            )
        )
    validated = (*(["CNN>"] if has_cnn else []), *(["kernel>"] if has_kernel else []))
    scores = [f"{_short(name)}>" for name in shown]
    scores[beside:beside] = [""] if any_tied else []
    size, cost = (("params>",), ("time>",)) if roomy else ((), ())
    scores += ["held out>"] if has_accuracy else []
    heads = ("#>", "trial>", *scores, *validated, *size, "FLOPs>", *cost, "architecture")
    return _table(heads, lines, width, [None if row.state == "COMPLETE" else "dim" for row in rows])


def trial(
    row: Row,
    architecture: Architecture | None,
    image_shape: Sequence[int],
    num_classes: int,
    width: int = 80,
    validated: Sequence[Validation] = (),
    rungs: Sequence[Score] = (),
) -> RenderableType:
    """Return everything about a trial: what it is, what it scored, and its architecture as a tree."""
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    of = "" if row.sibling_of is None else f", scored in one pass with trial {row.sibling_of}"
    lines: list[tuple[str, str]] = [("trial", f"{row.trial}, {row.state}{of}")]
    if row.reason is not None:
        lines.append(("reason", row.reason))
    if row.key is not None:
        lines.append(("key", row.key))
    if row.parameters:
        lines.append(("parameters", ", ".join(f"{name}={value}" for name, value in row.parameters.items())))
    if row.params is not None:
        size = f"{text.count(row.params)} parameters, {text.count(row.flops)} FLOPs an image"
        if architecture is not None and row.params != architecture.count_parameters(image_shape, num_classes):
            size += ", as the space counts"
        lines.append(("size", size))
    for name in row.scores:
        if name not in ("params", "flops"):
            lines.append((name, _score(row, name)))
    if row.subset is not None:
        lines.append(("measured on", f"{row.subset} images, held out {row.holdout}"))
    for rung in rungs:
        name = next(iter(rung.values))
        if len(rungs) > 1:
            found = rung.values[name]
            error = standard_error(name, found, rung.subset, rung.holdout)
            lines.append((f"rung {rung.subset}", f"{name} {text.score(name, found, error)}"))
    if row.backend not in (None, "none") and row.ridge is not None and row.jitter is not None:
        lines.append(("computed by", f"backend {row.backend}; ridge {row.ridge:g}, jitter {row.jitter:g}"))
    if row.predicted_seconds is not None:
        took = "" if row.seconds is None else f", took {text.duration(row.seconds)}"
        share = ": its share of the pass" if row.sibling_of is not None else ""
        lines.append(("cost", f"predicted {text.duration(row.predicted_seconds)}{took}{share}"))
    lines += [validation_line(one) for one in validated]
    for name, value_text in lines:
        facts.add_row(Text(name, style="bold"), Text(value_text))
    if architecture is None:
        return facts
    nodes = [
        (
            str(one.node),
            one.drawn,
            one.output,
            "" if one.params is None else text.count(one.params),
            "" if one.flops is None else text.count(one.flops),
            ", ".join(map(str, one.reads)),
        )
        for one in tree(architecture, image_shape, num_classes)
    ]
    heads = ("node>", "at width 64", "output", "params>", "FLOPs>", "reads")
    return Group(facts, Text(), _table(heads, nodes, width, [None] * len(nodes)))


def studies(rows: Sequence[StudyRow], width: int = 80) -> Table:
    """Return the list of studies; a star marks those that are being searched."""
    lines = [
        (
            row.name,
            f"{row.finished}/{row.target}" + ("*" if row.running else ""),
            row.sampler,
            row.created[:10],
            f"{row.scores} in {row.space} on {row.data}",
        )
        for row in rows
    ]
    return _table(("study", "trials>", "sampler", "made", "what"), lines, width, [None] * len(lines))


def validation_line(one: Validation) -> tuple[str, str]:
    """Return a validation as a name and one sentence."""
    name = "full kernel" if one.kind == "kernel" else f"CNN, {one.recipe}"
    if one.accuracy is None:
        found = "diverged at every learning rate"
    else:
        found = f"{text.score('accuracy', one.accuracy, one.stderr)} of {one.test_images:,} test images"
    best = one.details.get("best_on_test")
    if isinstance(best, float):
        found += f" (best on test, as the paper reports: {text.score('accuracy', best)})"
    how = f"trained on {one.train_images:,}" if one.kind == "cnn" else f"fitted on {one.train_images:,}"
    return name, f"{found}; {how}, {text.duration(one.seconds)}"


def _tested(validated: bool, accuracy: float | None) -> str:
    if not validated:
        return "-"
    return "diverged" if accuracy is None else text.score("accuracy", accuracy)


def _score(row: Row, name: str) -> str:
    value = row.scores.get(name)
    if value is None or not row.subset or not row.holdout:
        return text.score(name, value)
    return text.score(name, value, standard_error(name, value, row.subset, row.holdout))


def _short(name: str) -> str:
    names = {"holdout_accuracy": "held-out accuracy", "log_marginal_likelihood": "log marg. lik."}
    return names.get(name, name.replace("_", " "))
