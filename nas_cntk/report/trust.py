"""How far the proxy can be trusted in a study: its health against every kind of validation there is, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Group, RenderableType
from rich.text import Text

from nas_cntk.records.validations import Validation
from nas_cntk.report import tables
from nas_cntk.report.rows import Directions, Row
from nas_cntk.validate.health import Correlation, Health, Validated, health

TARGETS = (("cnn", "standard"), ("cnn", "paper"), ("kernel", None))


def target_name(kind: str, recipe: str | None) -> str:
    """Return what a kind of validation is called."""
    return "full kernel" if kind == "kernel" else f"CNN, {recipe} recipe"


def trust(rows: Sequence[Row], directions: Directions, validated: Sequence[Validation]) -> list[Health]:
    """Return the proxy's health against each kind of validation, of the rows' architectures."""
    name = next(iter(directions))
    sign = 1.0 if directions[name] == "maximize" else -1.0
    scored = {row.key: row for row in reversed(rows) if row.key is not None and name in row.scores}
    found = []
    for kind, recipe in TARGETS:
        points, taken = [], []
        for one in validated:
            row = scored.get(one.key)
            if (one.kind, one.recipe) != (kind, recipe) or one.accuracy is None or row is None:
                continue
            proxy, flops, params = sign * row.scores[name], float(row.flops or 0), float(row.params or 0)
            taken.append(one)
            points.append(Validated(one.key, proxy, flops, params, one.accuracy, one.stderr or 0.0))
        if points:
            one_target = health(target_name(kind, recipe), sorted(points, key=lambda point: point.key))
            found.append(replace(one_target, notes=(*one_target.notes, *_unlike(taken))))
    return found


def _unlike(validated: Sequence[Validation]) -> list[str]:
    """Return a note if validations of one target were made with different settings."""
    values = {"training images": {one.train_images for one in validated}}
    for name in ("epochs", "width", "flips", "crops"):
        values[name] = {found for one in validated if isinstance(found := one.setting(name), int)}
    unlike = [name for name, different in values.items() if len(different) > 1]
    if not unlike:
        return []
    return [f"they differ in {', '.join(unlike)}, which the ranks do not know; validate --force makes them equal"]


def trust_panel(found: Sequence[Health], directions: Directions, width: int) -> RenderableType:
    """Return the correlations with each kind of validation as a table, its verdict below."""
    names = {"proxy": next(iter(directions)), "flops": "FLOPs", "params": "parameters"}
    parts: list[RenderableType] = []
    for one in found:
        parts += [Text()] if parts else []
        parts.append(
            Text(
                f"proxy health: {one.architectures} {_noun(one.architectures)} validated as {one.target}", style="bold"
            )
        )
        lines = [
            (
                names[line.predictor],
                _interval(line.spearman),
                _interval(line.kendall),
                "" if line.partial is None else _number(line.partial.value),
            )
            for line in one.lines
        ]
        if one.architectures > 2:
            heads = ("ranked by", "Spearman>", "Kendall>", "given FLOPs")
            parts.append(tables.plain(heads, lines, width))
        parts.append(Text(one.verdict))
        parts += [Text(f"note: {note}") for note in one.notes]
    return Group(*parts)


def _noun(count: int) -> str:
    return "architecture" if count == 1 else "architectures"


def _interval(found: Correlation) -> str:
    if found.low is None or found.high is None:
        return _number(found.value)
    return f"{_number(found.value)} [{_number(found.low)}, {_number(found.high)}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
