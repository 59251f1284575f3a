"""Images inside the page: PNG as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from nas_cntk.data.contact_sheet import pixel_range, tile
from nas_cntk.report.html.predictions import Predictions

LARGEST = 96  # pixels a side that are kept


@dataclass(frozen=True, slots=True)
class Picture:
    """An image with its class and the class that it was given."""

    source: str  # a data URI
    truth: str
    predicted: str
    small: bool  # enlarged with its pixels visible


def pictures(found: Predictions, chosen: Sequence[int]) -> tuple[Picture, ...]:
    """Return some of the images."""
    if not len(chosen):
        return ()
    low, high = pixel_range(found.images)
    shown = []
    for index in chosen:
        image = tile(found.images[index], low, high)
        small = max(image.size) <= LARGEST // 2
        if max(image.size) > LARGEST:
            image.thumbnail((LARGEST, LARGEST))
        buffer = io.BytesIO()
        image.save(buffer, format="PNG", optimize=True)
        source = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
        shown.append(Picture(source, found.classes[found.truth[index]], found.classes[found.predicted[index]], small))
    return tuple(shown)
