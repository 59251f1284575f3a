"""Facts of a dataset that a person should know before searching it: counts, sizes, what cannot be used, twins."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_cntk import data
from nas_cntk.data import folder
from nas_cntk.data.dataset import Dataset
from nas_cntk.data.sources import counted, first_few

UNBALANCED = 10  # times as many images in the largest class as in the smallest
ALIKE = 0.02  # of a side: how far an image may be from a square before squeezing it is worth a word


@dataclass(frozen=True, slots=True)
class Facts:
    """A dataset as it is read, and what is odd about it. `problems` stop a search; `remarks` are worth knowing."""

    dataset: Dataset  # not standardised
    sizes: tuple[tuple[tuple[int, int], int], ...]  # (height, width) as stored, and how many images; commonest first
    image_size: int | None  # that was asked for, or that images of several sizes need
    test_given: bool
    left_out: tuple[tuple[str, str], ...]  # files that cannot be used, and why
    problems: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def options(self) -> list[str]:
        """What to add to the command line of a search so that it accepts these data."""
        options = [] if self.image_size is None else ["--image-size", str(self.image_size)]
        return [*options, *(["--skip-bad"] if self.left_out else [])]


def facts(spec: str, image_size: int | None) -> Facts:
    """Read a dataset and look it over; files that cannot be used are left out and listed.

    Raises: DataError where nothing can be read.
    """
    kind, _, place = spec.partition(":")
    problems: list[str] = []
    remarks: list[str] = []
    sizes: Counter[tuple[int, int]] = Counter()
    if kind == "folder" and place:
        with data.plain_errors(spec):
            seen = folder.survey(Path(place).expanduser())
        sizes.update(seen.sizes)
        if image_size is None and len(sizes) > 1:
            image_size = seen.suggestion()
            problems.append(f"images of {len(sizes):,} sizes: a search needs --image-size, here {image_size}")
        remarks += _oddities(seen)
    raw = data.read(spec, image_size=image_size, skip_bad=True)
    if kind != "folder":
        sizes[raw.x.shape[1:3]] = len(raw.x) + (0 if raw.x_test is None else len(raw.x_test))
    dataset = data.assemble(raw, spec, image_size)
    if raw.left_out:
        problems.append(f"{counted(len(raw.left_out), 'image')} cannot be used: repair, or search with --skip-bad")
    skewed = sum(n for (h, w), n in sizes.items() if abs(h - w) > ALIKE * max(h, w))
    if image_size is not None and skewed:
        remarks.append(f"{_are(skewed)} no square: squeezed to {image_size} x {image_size}, not cropped")
    remarks += [note for note in dataset.notes if "cannot be used" not in note]
    remarks += _balance(dataset)
    remarks += _twins(dataset)
    common = tuple(sorted(sizes.items(), key=lambda item: (-item[1], item[0])))
    return Facts(dataset, common, image_size, raw.x_test is not None, raw.left_out, tuple(problems), tuple(remarks))


def _oddities(seen: folder.Survey) -> list[str]:
    said = []
    headers = list(seen.headers.values())
    turned = sum(header.turned for header in headers)
    if turned:
        said.append(f"{_are(turned)} turned as EXIF says")
    animated = sum(header.animated for header in headers)
    if animated:
        said.append(f"{_are(animated)} animated: the first frame is read")
    clear = sum(header.mode in ("LA", "La", "RGBA", "RGBa", "PA") for header in headers)
    if clear:
        said.append(f"{_are(clear)} partly transparent: laid on black")
    gray = sum(header.mode in ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L") for header in headers)
    if 0 < gray < len(headers):
        said.append(f"{_are(gray)} stored in gray: beside colour they get three equal channels")
    return said


def _balance(dataset: Dataset) -> list[str]:
    counts = np.bincount(dataset.y_train, minlength=dataset.num_classes)
    least, most = int(counts.argmin()), int(counts.argmax())
    if counts[most] < UNBALANCED * max(1, counts[least]):
        return []
    return [
        f"unbalanced: {counts[most]:,} training images of {dataset.classes[most]!r}, {counts[least]:,} of "
        f"{dataset.classes[least]!r}; whoever always guesses the former is right in {counts[most] / counts.sum():.0%}"
    ]


def _twins(dataset: Dataset) -> list[str]:
    """Images that are there twice, by their pixels at the size that kernels see."""
    said = []
    train, test = _digests(dataset.x_train), _digests(dataset.x_test)
    labels: dict[bytes, set[int]] = {}
    for digest, label in zip(train, dataset.y_train, strict=True):
        labels.setdefault(digest, set()).add(int(label))
    again = len(train) - len(labels)
    if again:
        said.append(f"{_are(again, 'training image')} there already: subset and held-out images may be the same")
    torn = [digest for digest, found in labels.items() if len(found) > 1]
    if torn:
        names = [dataset.classes[label] for label in sorted(labels[torn[0]])]
        said.append(f"{_are(len(torn))} in several classes at once (one of them in {first_few(names)})")
    leaked = sum(digest in labels for digest in test)
    if leaked:
        said.append(f"{_are(leaked, 'test image')} also among the training images: validated accuracies will flatter")
    flat = [x.min(axis=(1, 2, 3)) == x.max(axis=(1, 2, 3)) for x in (dataset.x_train, dataset.x_test)]
    blank = sum(int(one.sum()) for one in flat)
    if blank:
        said.append(f"{_are(blank)} of one colour throughout")
    return said


def _are(number: int, what: str = "image") -> str:
    return f"{counted(number, what)} {'is' if number == 1 else 'are'}"


def _digests(x: NDArray[Any]) -> Sequence[bytes]:
    return [hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest() for image in x]
