"""What a search has cost: seconds predicted and taken, of its trials and of its validations."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from nas_cntk.data.sources import counted
from nas_cntk.records.trials import Score
from nas_cntk.records.validations import Validation
from nas_cntk.report import text
from nas_cntk.report.html.plot import Key, Mark, Plot, X, Y, line, thinned
from nas_cntk.report.html.scale import logarithmic
from nas_cntk.report.rows import Row

_LEAST = 1e-3  # seconds; below it a prediction says nothing


@dataclass(frozen=True, slots=True)
class Cost:
    """Facts about the cost, as (name, value), and predicted against taken seconds."""

    facts: tuple[tuple[str, str], ...]
    plot: Plot | None


def cost(rows: Sequence[Row], scores: Sequence[Score], validated: Sequence[Validation], rate: float | None) -> Cost:
    """Return the cost of a study; `rate` in entry-layers/s, at its first calibration.

    Args:
        scores: of everything that was scored, siblings that are no trials among them.
    """
    measured = [row for row in rows if row.seconds is not None and row.duplicate_of is None]
    seconds = [row.seconds or 0.0 for row in measured]
    facts: list[tuple[str, str]] = []
    if seconds:
        facts += [
            (
                "search, all trials",
                f"{text.duration(sum(seconds))} for {counted(len(seconds), 'trial')} that were measured",
            ),
            *_others(rows, scores),
            ("a trial", f"median {text.duration(statistics.median(seconds))}, longest {text.duration(max(seconds))}"),
        ]
    points = [
        (row, row.predicted_seconds or 0.0, row.seconds or 0.0)
        for row in measured
        if row.state == "COMPLETE" and (row.predicted_seconds or 0.0) > _LEAST and (row.seconds or 0.0) > _LEAST
    ]
    if points:
        ratio = statistics.median(took / predicted for _, predicted, took in points)
        facts.append(("taken over predicted", f"{ratio:.2f} (median of {len(points)})"))
    copies = sum(row.duplicate_of is not None for row in rows)
    if copies:
        facts.append(("proposed again", f"{counted(copies, 'trial')}, scored as an equal architecture before"))
    for kind, name in (("cnn", "trained CNNs"), ("kernel", "full kernels")):
        own = [one.seconds for one in validated if one.kind == kind]
        if own:
            facts.append((f"validation, {name}", f"{text.duration(sum(own))} for {len(own)}"))
    if rate:
        facts.append(("speed at the start", f"{rate:.2g} entry-layers a second"))
    return Cost(tuple(facts), _plot(points) if len(points) > 1 else None)


def _others(rows: Sequence[Row], scores: Sequence[Score]) -> list[tuple[str, str]]:
    """Return what networks took that were scored in the same passes and are no trials."""
    trials = {row.key for row in rows}
    spent = {one.key: one.result.get("seconds") for one in scores if one.key not in trials}
    seconds = [value for value in spent.values() if isinstance(value, (int, float))]
    if not seconds:
        return []
    what = counted(len(seconds), "network")
    return [("scored beside them", f"{text.duration(sum(seconds))} for {what} of the same passes that are no trials")]


def _plot(points: Sequence[tuple[Row, float, float]]) -> Plot:
    values = [value for _, predicted, took in points for value in (predicted, took)]
    x, y = logarithmic(values, *X), logarithmic(values, *Y)
    drawn = {row.trial for row in thinned([row for row, _, _ in points])}
    within = sum(0.5 <= took / predicted <= 2.0 for _, predicted, took in points)
    return Plot(
        name="cost",
        title="seconds of a trial, predicted and taken",
        description=f"{within} of {len(points)} trials took between half and twice what was predicted.",
        x_label="predicted, s",
        y_label="taken, s",
        x_ticks=x.ticks(lambda value: f"{value:g}"),
        y_ticks=y.ticks(lambda value: f"{value:g}"),
        marks=tuple(
            Mark(
                x.at(predicted),
                y.at(took),
                "plain",
                "dot",
                f"trial {row.trial}: predicted {text.duration(predicted)}, took {text.duration(took)}",
            )
            for row, predicted, took in points
            if row.trial in drawn
        ),
        lines=(line([(X[0], Y[0]), (X[1], Y[1])], "guide"),),
        keys=(Key("plain", "dot", "trial"), Key("guide", "line", "as predicted")),
    )
