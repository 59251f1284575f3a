"""model.py: an architecture spelled out as a torch module that a person can read, edit and train."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from nas_cntk import ops
from nas_cntk.architecture import Architecture
from nas_cntk.export.manifest import Resize
from nas_cntk.export.read_image import read_image_source

LONGEST_SUM = 4  # terms joined by plus signs; Python's own parser gives up on very long ones
_NAMES = ("x", "y", "z", "u", "v", "w")
_WIDTH = 116

_HEAD = '''\
"""{title}

{about}

{example}

Modules are named by the nodes of architecture.json: {names}.
"""

{imports}import torch
from torch import nn

IMAGE_SHAPE = ({h}, {w}, {c})  # height, width, channels; {pixels}
CLASSES = {classes}
MEAN = {mean}  # of the training images, a channel each
DEVIATION = {deviation}
{read_image}

def preprocess(images: torch.Tensor) -> torch.Tensor:
    """Return images, shape (n, h, w, c), on the CPU, as the network reads them: standardised, shape (n, c, h, w)."""
    mean, deviation = torch.tensor(MEAN, dtype=torch.float64), torch.tensor(DEVIATION, dtype=torch.float64)
    return ((images.double() - mean) / deviation).float().permute(0, 3, 1, 2).contiguous()


class Network(nn.Module):
    """{network}"""

    def __init__(self) -> None:
        super().__init__()
'''

_RESET = '''
    def reset_parameters(self) -> None:
        """Draw the weights anew: He et al. (2015) for the convolutions, half that variance for the readout."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
            if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scores of the classes, shape (n, {num_classes}), for images of shape (n, {c}, {h}, {w})."""
'''


def model_source(
    arch: Architecture,
    image_shape: Sequence[int],
    classes: Sequence[str],
    *,
    width: int,
    batch_norm: bool,
    mean: Sequence[float],
    deviation: Sequence[float],
    pixels: str,
    title: str,
    about: str,
    trained: bool,
    photos: Resize | None,
) -> str:
    """Return the text of a model.py whose `Network` takes the weights of `standard_network` by the same names.

    Args:
        image_shape: (h, w, c).
        width: channels of every conv.
        pixels: what the pixel values are before `preprocess`, for a comment.
        title, about: of the docstring; whatever could end it is replaced.
        trained: whether weights lie beside it.
        photos: what `read_image` does with image files of another size; None: there is no such function, because
            pixel values are not those of an image file.

    Raises:
        IllegalArchitecture: if the architecture does not fit the image.
    """
    h, w, c = (int(side) for side in image_shape)
    count = arch.count_parameters(image_shape, len(classes), width)
    shown = example((h, w, c), pixels=_quiet(pixels), trained=trained, photos=photos)
    head = _HEAD.format(
        title=_quiet(title),
        about="\n".join(textwrap.wrap(_quiet(about), _WIDTH)),
        example=textwrap.indent("\n".join(shown), "    "),
        imports="" if photos is None else "from pathlib import Path\n\n",
        read_image="" if photos is None else read_image_source((h, w, c), photos),
        h=h,
        w=w,
        c=c,
        names="`conv_3` is node 3, `norm_3` the batch norm after it" if batch_norm else "`conv_3` is node 3",
        pixels=_quiet(pixels),
        classes=_tuple([_quoted(name) for name in classes]),
        mean=_tuple([repr(float(value)) for value in mean]),
        deviation=_tuple([repr(float(value)) for value in deviation]),
        network=f"{len(arch.live)} nodes, {count:,} weights of convolutions and readout.",
    )
    modules = dict(_modules(arch, image_shape, len(classes), width, batch_norm))
    lines = [f"        {line}" for line in _constructor(arch, modules)]
    reset = _RESET.format(num_classes=len(classes), c=c, h=h, w=w)
    body = [f"        {line}" for line in _forward(arch, image_shape, modules, width)]
    return head + "\n".join(lines) + "\n" + reset + "\n".join(body) + "\n"


def example(image_shape: tuple[int, int, int], *, pixels: str, trained: bool, photos: Resize | None) -> list[str]:
    """Return the lines of a program that uses model.py; arguments as for `model_source`."""
    h, w, c = image_shape
    names = ["CLASSES", "Network", "preprocess", *(["read_image"] if photos is not None else [])]
    sizes = {"never": f"of {h} x {w} pixels", "shrink": f"of {h} x {w} pixels or more", "any": "of any size"}
    images = [
        f"# Put yours here, floats (n, height, width, channels): {pixels}.",
        f"images = torch.rand(2, {h}, {w}, {c})",
    ]
    if photos is not None:
        images = [f'images = torch.stack([read_image("photo.jpg")])  # one or more, {sizes[photos]}']
    return [
        "import torch",
        f"from model import {', '.join(names)}",
        *(["from safetensors.torch import load_file"] if trained else []),
        "",
        "network = Network()" + ("" if trained else "  # random weights: train it"),
        *(['network.load_state_dict(load_file("weights.safetensors"))'] if trained else []),
        "network.eval()",
        *images,
        "with torch.no_grad():",
        "    scores = network(preprocess(images))  # (n, classes)",
        "print([CLASSES[i] for i in scores.argmax(1)])",
    ]


def _modules(
    arch: Architecture, image_shape: Sequence[int], num_classes: int, width: int, batch_norm: bool
) -> Iterator[tuple[str, str]]:
    """Yield the modules in order: name and the expression that makes it."""
    weights = arch.weights(image_shape, num_classes, width)
    for index in arch.live:
        op = arch.nodes[index].op
        if isinstance(op, ops.Conv):
            out, reads = weights[index][0][:2]
            stride = f", stride={op.stride}" if op.stride > 1 else ""
            padding = f", padding={(op.kernel - 1) // 2}" if op.kernel > 1 else ""
            bias = ", bias=False" if batch_norm else ""
            yield f"conv_{index}", f"nn.Conv2d({reads}, {out}, {op.kernel}{stride}{padding}{bias})"
            if batch_norm:
                yield f"norm_{index}", f"nn.BatchNorm2d({out})"
        elif isinstance(op, ops.AvgPool):
            same = f", padding={op.size // 2}, count_include_pad=False" if op.padding == "same" else ""
            yield f"pool_{index}", f"nn.AvgPool2d({op.size}, stride={op.stride}{same})"
        elif isinstance(op, ops.Dense):
            out, reads = weights[index][0]
            yield f"dense_{index}", f"nn.Linear({reads}, {out})"


def _constructor(arch: Architecture, modules: Mapping[str, str]) -> Iterator[str]:
    for name, made in modules.items():
        yield f"self.{name} = {made}"
    yield "self.reset_parameters()"
    for index in arch.live:
        op = arch.nodes[index].op
        if isinstance(op, (ops.Conv, ops.Dense)) and not op.trainable:
            yield f"self.{op.NAME}_{index}.requires_grad_(False)  # frozen in the architecture"


def _forward(arch: Architecture, image_shape: Sequence[int], modules: Mapping[str, str], width: int) -> Iterator[str]:
    """Yield a line a node, variables used again as soon as nobody reads them: deep networks hold few maps."""
    shapes, channels = arch.shapes(image_shape), arch.channels(image_shape, width)
    unread = Counter(i for index in arch.live for i in set(arch.nodes[index].inputs))
    held: dict[int, str] = {}
    for index in arch.live:
        node = arch.nodes[index]
        if isinstance(node.op, ops.Input):
            held[index] = "x"
            continue
        read = [held[i] for i in node.inputs]
        unread.subtract(set(node.inputs))
        freed = [held.pop(i) for i in dict.fromkeys(node.inputs) if not unread[i]]
        held[index] = name = freed[0] if freed else _unused(set(held.values()))
        if isinstance(node.op, ops.Dense):
            yield f"return self.dense_{index}({read[0]})"
            return
        value = _value(index, node.op, read, modules)
        shape = " x ".join(map(str, (channels[index], *shapes[index]))) if shapes[index] else "a vector"
        *first, last = textwrap.wrap(f"{name} = {value}", _WIDTH - 8, subsequent_indent="    ", break_long_words=False)
        yield from first
        yield f"{last}  # node {index}: {shape}"


def _value(index: int, op: ops.Op, read: Sequence[str], modules: Mapping[str, str]) -> str:
    if isinstance(op, ops.Conv):
        value = f"self.conv_{index}({read[0]})"
        return f"self.norm_{index}({value})" if f"norm_{index}" in modules else value
    if isinstance(op, ops.AvgPool):
        return f"self.pool_{index}({read[0]})"
    if isinstance(op, ops.Relu):
        return f"torch.relu({read[0]})"
    if isinstance(op, ops.Add):
        return " + ".join(read) if len(read) <= LONGEST_SUM else f"sum([{', '.join(read)}])"
    if isinstance(op, ops.GlobalAvgPool):
        return f"{read[0]}.mean(dim=(2, 3))"
    assert isinstance(op, ops.Flatten), f"no torch code for {op.NAME}"
    return f"{read[0]}.flatten(1)"


def _unused(taken: set[str]) -> str:
    for name in _NAMES:
        if name not in taken:
            return name
    number = len(_NAMES)
    while f"x{number}" in taken:
        number += 1
    return f"x{number}"


def _tuple(items: Sequence[str]) -> str:
    short = f"({', '.join(items)}{',' if len(items) == 1 else ''})"
    return short if len(short) <= _WIDTH - 14 else "(\n" + "".join(f"    {item},\n" for item in items) + ")"


def _quoted(name: str) -> str:
    """Return a string literal, in double quotes where that needs no escapes."""
    literal = repr(name)
    return f'"{literal[1:-1]}"' if literal[0] == "'" and '"' not in name else literal


def _quiet(text: str) -> str:
    """Return text that cannot end the docstring it stands in."""
    return "".join(char if char.isprintable() else " " for char in text).replace("\\", "/").replace('"', "'")
