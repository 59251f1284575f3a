"""Data looked over, on a screen: classes, sizes, what is wrong, the split, and what a search would cost."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nas_cntk.data.sources import counted
from nas_cntk.report import text
from nas_cntk.search.inspection import Cost, Inspection
from nas_cntk.search.settings import DEFAULT_TRIAL_SECONDS, DEFAULT_TRIALS

CLASSES = 24  # rows of the table of classes; of more, the largest and the smallest are shown
SIZES = 4  # that are named; the rest is counted
FILES = 20  # that cannot be used and are named; --json has all


def show(console: Console, found: Inspection) -> None:
    """Print an inspection."""
    for line in _head(found):
        _print(console, line)
    console.print()
    console.print(_classes(found))
    hidden = found.facts.dataset.num_classes - CLASSES
    if hidden > 0:
        _print(console, f"{hidden} classes between them are not shown; --json has all")
    console.print()
    for problem in found.problems:
        _print(console, f"problem: {problem}", "bold red")
    for name, why in found.facts.left_out[:FILES]:
        _print(console, f"  {name!r}: {why}")
    if len(found.facts.left_out) > FILES:
        _print(console, f"  and {len(found.facts.left_out) - FILES} more; --json has all")
    for remark in dict.fromkeys((*found.facts.remarks, *(found.split.notes if found.split is not None else ()))):
        if "cannot be used" not in remark:
            _print(console, f"note: {remark}")
    if found.split is not None:
        _print(
            console,
            f"split: subset {len(found.split.y):,}, held out {len(found.split.y_holdout):,} (seed"
            f" {found.problem.seed}); {len(found.facts.dataset.y_test):,} test images that only validate looks at",
        )
        _print(
            console,
            f"a search of {DEFAULT_TRIALS} trials of space {found.problem.space} at {found.rate:.2g} entry-layers/s:",
        )
        for one in sorted(found.costs, key=lambda one: one.image_size or 0):
            mark = ">" if one is found.costs[0] and len(found.costs) > 1 else " "
            _print(console, f"{mark} {_cost_line(one)}")


def _head(found: Inspection) -> Iterator[str]:
    dataset = found.facts.dataset
    h, w, c = dataset.image_shape
    given = "" if found.facts.test_given else ", one fifth set aside"
    yield (
        f"data {dataset.spec}: {len(dataset.y_train):,} training and {len(dataset.y_test):,} test images{given};"
        f" {dataset.num_classes} classes"
    )
    sizes = [f"{height} x {width} ({count:,})" for (height, width), count in found.facts.sizes]
    if len(sizes) == 1:
        stored = "{} x {}".format(*found.facts.sizes[0][0])
    else:
        rest = len(sizes) - SIZES
        stored = ", ".join(sizes[:SIZES])
        if rest > 0:
            areas = sorted((size for size, _ in found.facts.sizes), key=lambda size: (size[0] * size[1], size))
            stored += " and {}, from {} x {} to {} x {}".format(counted(rest, "more size"), *areas[0], *areas[-1])
    what = "gray" if c == 1 else "colour" if c == 3 else f"{c} channels"
    yield f"images: {stored}; used as {h} x {w}, {what}"


def _classes(found: Inspection) -> Table:
    rows = found.counts()
    if len(rows) > CLASSES:
        ordered = sorted(rows, key=lambda row: -row[1])
        rows = [*ordered[: CLASSES // 2], *ordered[-CLASSES // 2 :]]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("class", overflow="ellipsis", no_wrap=True, max_width=40)
    for name in ("training", "test", "subset", "held out"):
        table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
    for name, *counts in rows:
        shown = "".join(letter if letter.isprintable() else "�" for letter in name)
        table.add_row(Text(shown), *("-" if count is None else f"{count:,}" for count in counts))
    return table


def _cost_line(one: Cost) -> str:
    seen = one.forecast
    where = "as they are" if one.image_size is None else f"--image-size {one.image_size}"
    line = f"{where:<15}  {text.duration(seen.least)} to {text.duration(seen.most)} a trial"
    if seen.dear == seen.proposals:
        return f"{line}; every proposal is beyond {text.duration(DEFAULT_TRIAL_SECONDS)} and would be skipped"
    if seen.dear:
        # What the others take in all may be less than at a smaller size, and would look like a recommendation.
        limit = text.duration(DEFAULT_TRIAL_SECONDS)
        return f"{line}; {seen.dear} of {seen.proposals} proposals are beyond {limit} and would be skipped"
    return f"{line}, {text.duration(seen.total(DEFAULT_TRIALS))} in all"


def _print(console: Console, line: str, style: str = "") -> None:
    console.print(Text(line, style), soft_wrap=not console.is_terminal)
