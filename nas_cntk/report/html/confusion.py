"""Which classes are taken for which, and the images that are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nas_cntk.report import text
from nas_cntk.report.html.pictures import Picture, pictures
from nas_cntk.report.html.predictions import Predictions

MOST_CLASSES = 20  # of a matrix that a screen has room for
PAIRS = 15  # the commonest confusions, where there are more classes
IMAGES = 24


@dataclass(frozen=True, slots=True)
class Cell:
    """How often a class was given to images of a class; `heat` is its share of the true class, in [0, 1]."""

    count: int
    heat: float
    right: bool


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """The images of one class."""

    name: str
    cells: tuple[Cell, ...]
    recall: str


@dataclass(frozen=True, slots=True)
class Confusion:
    """What the page shows of predictions."""

    sentence: str
    where: str
    classes: tuple[str, ...]
    matrix: tuple[MatrixRow, ...]  # nothing of too many classes
    pairs: tuple[tuple[str, str, int], ...]  # (true, predicted, images), the commonest first
    images: tuple[Picture, ...]
    wrong: int
    notes: tuple[str, ...]


def confusion(found: Predictions) -> Confusion:
    """Return the confusion of predictions, and the surest mistakes among them."""
    k, m = len(found.classes), len(found.truth)
    counts = np.zeros((k, k), dtype=np.int64)
    np.add.at(counts, (found.truth, found.predicted), 1)
    wrong = found.wrong
    off = counts.copy()
    np.fill_diagonal(off, 0)
    order = np.argsort(-off, axis=None, kind="stable")[:PAIRS]
    pairs = [divmod(int(place), k) for place in order if off.flat[place]]
    error = np.sqrt(len(wrong) * (m - len(wrong)) / m) / m
    sentence = (
        f"{found.model[0].upper()}{found.model[1:]} is wrong on {len(wrong):,} of {m:,} {found.where}:"
        f" accuracy {text.score('accuracy', 1 - len(wrong) / m, float(error))}."
    )
    return Confusion(
        sentence=sentence,
        where=found.where,
        classes=found.classes,
        matrix=tuple(_row(found.classes[i], counts[i], i) for i in range(k)) if k <= MOST_CLASSES else (),
        pairs=tuple((found.classes[i], found.classes[j], int(off[i, j])) for i, j in pairs),
        images=pictures(found, wrong[:IMAGES].tolist()),
        wrong=len(wrong),
        notes=found.notes,
    )


def _row(name: str, counts: np.ndarray[tuple[int], np.dtype[np.int64]], own: int) -> MatrixRow:
    total = int(counts.sum())
    cells = tuple(
        Cell(int(count), round(int(count) / total, 3) if total else 0.0, place == own)
        for place, count in enumerate(counts)
    )
    return MatrixRow(name, cells, f"{100 * int(counts[own]) / total:.1f} %" if total else "-")
