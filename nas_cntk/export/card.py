"""README.md of an exported model: where it comes from, how good it is, how to use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas_cntk.architecture import Architecture
from nas_cntk.export.manifest import (
    ARCHITECTURE,
    CARD,
    FILE,
    KERNEL,
    ONNX,
    SOURCE,
    WEIGHTS,
    Manifest,
    Network,
    Resize,
)
from nas_cntk.export.source import example
from nas_cntk.report import text
from nas_cntk.report.describe import listing, summary

_FILES = {
    SOURCE: "the network as plain torch modules: read it, edit it, train it",
    WEIGHTS: "its trained weights, a `state_dict`",
    ONNX: "the network as ONNX: input `images`, standardised, (n, channels, height, width)",
    KERNEL: "the training images, standardised, and the coefficients of the regression",
    ARCHITECTURE: "the architecture, node by node, as nas-cntk reads it",
    FILE: "classes, preprocessing and origin, for programs",
    CARD: "this page",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """A line of the table of scores."""

    what: str
    value: float | None
    error: float | None
    images: int | None
    of: str  # which images

    def line(self) -> str:
        """Return the line in Markdown."""
        value = "diverged" if self.value is None else text.score("accuracy", self.value, self.error)
        images = "" if self.images is None else f"{self.images:,} "
        return f"| {self.what} | {value} | {images}{self.of} |"


def card(
    manifest: Manifest,
    architecture: Architecture,
    files: Sequence[str],
    scores: Sequence[Measured],
    recipe: Sequence[str],
    pixels: str,
    photos: Resize | None,
) -> str:
    """Return the text of README.md.

    Args:
        recipe: sentences on how the model came to its numbers.
        pixels, photos: as for `model_source`.
    """
    shape, origin = "x".join(map(str, manifest.image_shape)), manifest.origin
    network = isinstance(manifest.model, Network)
    untrained = isinstance(manifest.model, Network) and manifest.model.recipe is None
    kind = "a convolutional network" if network else "a kernel regression"
    names = ", ".join(f"`{_plain(name)}`" for name in manifest.classes)
    lines = [
        f"# {summary(architecture)}: {kind} for images of {shape}",
        "",
        f"Trial {origin['trial']} of study `{_plain(origin['study'])}`, found and exported by nas-cntk"
        f" {origin['nas_cntk']}.",
        "",
        "## Files",
        "",
        *(f"- `{name}`: {_FILES[name]}" for name in _FILES if name in files),
        "",
        "## How to use it",
        "",
        *(_torch_usage(manifest, pixels, photos) if network else []),
        *([] if untrained else _WITH_US),
        "## Data and preprocessing",
        "",
        f"- Data: `{_plain(origin['data'])}`, fingerprint `{origin['data_fingerprint']}`.",
        f"- {len(manifest.classes)} classes, in this order: {names}.",
        f"- Images of {shape} (height, width, channels); {pixels}.",
        f"- {_RESIZED[manifest.resize]}",
        "- From each channel the mean is subtracted, and the rest is divided by the deviation, both of the training"
        f" images: mean {_numbers(manifest.mean)}, deviation {_numbers(manifest.deviation)}.",
        "",
        "## How it was made",
        "",
        *(f"- {line}" for line in recipe),
        "",
        "## Scores",
        "",
        "| what | accuracy ± standard error | measured on |",
        "| --- | --- | --- |",
        *(measured.line() for measured in scores),
        "",
        "The standard error is binomial: that of the number of images, not that of another training.",
        *([] if any("test" in measured.of for measured in scores) else ["No score is one of test images."]),
        "",
        "## Architecture",
        "",
        f"Key `{architecture.key}`.",
        "",
        "| node | op | reads | output |",
        "| ---: | --- | --- | --- |",
        *(f"| {' | '.join(row)} |" for row in listing(architecture, manifest.image_shape)),
        "",
        "## Licence",
        "",
        "None is stated: it is for whoever made this model to choose one, as far as the terms of the data allow.",
    ]
    return "\n".join(lines) + "\n"


_WITH_US = (
    "On the command line, with nas-cntk, in this folder:",
    "",
    "```",
    "nas-cntk predict . --data folder:IMAGES --output predictions.csv",
    "```",
    "",
    "In Python, with nas-cntk, in this folder:",
    "",
    "```python",
    "import nas_cntk",
    "",
    'model = nas_cntk.load_model(".")',
    'images = model.read("folder:IMAGES")  # or one image file; pixel values (n, height, width, channels), see below',
    "print(model.predict(images), model.scores(images))  # names of classes (n,), scores (n, classes)",
    "```",
    "",
)
_RESIZED = {
    "never": "Images of another size are refused.",
    "shrink": "Larger images are averaged down, each new pixel the mean over its area.",
    "any": "Images of another size are averaged, each new pixel the mean over its area.",
}


def _torch_usage(manifest: Manifest, pixels: str, photos: Resize | None) -> list[str]:
    about = manifest.model
    assert isinstance(about, Network)
    trained = about.recipe is not None
    needs = ["the weights are read with `safetensors`"] * trained + ["image files with Pillow"] * (photos is not None)
    return [
        f"`model.py` needs torch alone{''.join(f', {need}' for need in needs)}.",
        "",
        "```python",
        *example(manifest.image_shape, pixels=pixels, trained=trained, photos=photos),
        "```",
        "",
    ]


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)


def _plain(value: object) -> str:
    return "".join(char if char.isprintable() and char != "`" else " " for char in str(value))
