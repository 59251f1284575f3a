"""Scoring one architecture from a file, as a search would."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nas_cntk.architecture import LARGEST_JSON, Architecture
from nas_cntk.errors import ArchitectureError, IllegalArchitecture
from nas_cntk.search.bench import measured_rate, set_up
from nas_cntk.search.settings import Problem

if TYPE_CHECKING:
    from nas_cntk.scoring import ArchitectureScores

_WORTH_SAYING = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Scored:
    """The scores of one architecture and its size."""

    scores: ArchitectureScores
    params: int
    flops: int


def read_architecture(path: str) -> Architecture:
    """Return the architecture in a JSON file.

    Raises:
        ArchitectureError: if the file cannot be read, or holds no architecture.
    """
    file = Path(path).expanduser()
    try:
        if file.is_dir():
            raise ArchitectureError(f"{path} is a folder; name a JSON file")
        if file.stat().st_size > LARGEST_JSON:
            raise ArchitectureError(f"{path} is too large to be an architecture; at most {LARGEST_JSON} bytes are read")
        with file.open("rb") as stream:
            content = stream.read(LARGEST_JSON + 1)  # a pipe or a device has no size; too long is told below
    except OSError as error:
        raise ArchitectureError(f"{path} cannot be read: {error.strerror}") from None
    if not content.strip():
        raise ArchitectureError(f"{path} is empty; it should hold an architecture as JSON")
    try:
        return Architecture.from_json(content)
    except ArchitectureError as error:
        raise type(error)(f"{path}: {error}") from None


def score_file(
    architecture: Architecture,
    problem: Problem,
    backend: str,
    say: Callable[[str], None],
    devices: Sequence[int] = (),
) -> Scored:
    """Return the scores of an architecture; notes on the data, and what takes long, are said first."""
    bench = set_up(problem, backend, devices=devices)
    for note in bench.split.notes:
        say(f"note: {note}")
    try:
        params, flops = bench.sizes(architecture)
    except IllegalArchitecture as error:
        shape = "x".join(map(str, bench.dataset.image_shape))
        raise IllegalArchitecture(f"the architecture does not fit images of {shape}: {error}") from None
    rate = measured_rate(bench)
    seconds = bench.seconds([architecture], [(params, flops)], rate)
    if seconds > _WORTH_SAYING:
        say(f"predicted: {seconds:.0f} s")
    return Scored(bench.score([architecture], lambda _: None, lambda: False)[0], params, flops)
