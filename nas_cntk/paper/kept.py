"""The finished cells beside a page of results, as a JSON file: whatever machine they come from, the page keeps them.

    {"format": 1, "cells": [{"settings": ..., "experiment": ..., "column": ..., "depth": ..., ...}, ...]}

A cell has the fields of `records.paper.PaperCell`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from nas_cntk.errors import RecordsError
from nas_cntk.records.paper import PaperCell

FORMAT = 1
NAME = "cells.json"

_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("settings", "experiment", "column", "finished"), (str,)),
    **dict.fromkeys(("depth", "train", "test"), (int,)),
    **dict.fromkeys(("accuracy", "stderr"), (int, float, type(None))),
    "seconds": (int, float),
    "details": (dict,),
}


def read_cells(path: Path) -> list[PaperCell]:
    """Return the cells of a file; none if it is not there.

    Raises:
        RecordsError: if it cannot be read, or is not such a file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError) as error:
        raise RecordsError(f"{path} holds no cells of a page of results: {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("cells"), list):
        raise RecordsError(f"{path} holds no cells of a page of results in format {FORMAT}; move it away")
    return [_cell(one, f"{path}, cell {number}") for number, one in enumerate(content["cells"], 1)]


def joined(kept: Sequence[PaperCell], found: Sequence[PaperCell]) -> list[PaperCell]:
    """Return both in the order in which they were finished; of equal settings the one that was finished last."""
    newest: dict[str, PaperCell] = {}
    for cell in sorted((*kept, *found), key=lambda cell: (cell.finished, cell.settings)):
        newest.pop(cell.settings, None)
        newest[cell.settings] = cell
    return list(newest.values())


def to_json(cells: Sequence[PaperCell]) -> str:
    """Return the text of a file, a line a cell."""
    lines = ",\n".join(json.dumps(asdict(cell), allow_nan=False) for cell in cells)
    return f'{{"format": {FORMAT}, "cells": [\n{lines}\n]}}\n'


def _cell(one: object, where: str) -> PaperCell:
    names = {field.name for field in fields(PaperCell)}
    if not isinstance(one, dict) or set(one) != names:
        raise RecordsError(f"{where} has not the fields {', '.join(sorted(names))}")
    for name, types in _TYPES.items():
        value = one[name]
        wrong = isinstance(value, bool) or not isinstance(value, types)
        if wrong or (isinstance(value, (int, float)) and not math.isfinite(value)):
            raise RecordsError(f"{where}: {name} cannot be {str(value)[:40]!r}")
    return PaperCell(**one)
