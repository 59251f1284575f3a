"""The empirical tangent kernel of one random net: inner products of the gradients of its output.

It is built one layer at a time, or a few that fit in memory together: the gradients of all images with respect to one
layer's weights (147,456 numbers an image for a conv of 128 channels) are multiplied into the Gram matrix and dropped.
One pass forward and one back give what all those layers read and by how much the output follows what they write; the
gradient of an image is then one product of two matrices. (A gradient taken of each layer by itself, image by image
under `vmap`, took 30 times as long on two cores: a conv's backward pass in groups, and a pass for every layer.)

It imports torch at its top, as `validate.finite` does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas_cntk.kernels.budget import available_memory
from nas_cntk.ops import Conv, Dense
from nas_cntk.validate.finite import FiniteNetwork, weight_name
from nas_cntk.validate.graph import torch

SHARE = 4  # the gradients that are kept at a time take this part of the memory at most
ACTIVATIONS = 2**28  # bytes of activations of a block of images, roughly
TIMED = 0.5  # seconds

Float = NDArray[np.float64]
Tick = Callable[[float], None]


def trained_layers(net: FiniteNetwork) -> list[str]:
    """Return the names of the weights that the gradient is taken of: those of the trainable layers."""
    return [name for name, weight in net.named_parameters() if weight.requires_grad]


def empirical_gram(
    net: FiniteNetwork, x: torch.Tensor, *, budget: int | None = None, tick: Tick | None = None
) -> Float:
    """Return the Gram matrix (n, n) of the gradients of a net with one output, for images (n, c, h, w).

    The net is made of convs of weights of their own and a readout, whatever lies between them.

    Args:
        budget: bytes of gradients that are kept; where one layer's take more, the images are taken in blocks, and
            the gradients of later blocks computed again for each. A quarter of the memory if None.
        tick: called between blocks with the fraction done; may raise to end the computation.

    Source: sections 3.2 and 5.2.
    """
    n = len(x)
    gram: Float = np.zeros((n, n))
    step = _block(net, x)
    done = 0
    passes = _passes(net, x, step, budget)
    for names, side in passes:
        for top in range(0, n, side):
            bottom = min(n, top + side)
            left = {name: x.new_empty((bottom - top, net.get_parameter(name).numel())) for name in names}
            for first, last in _cut(top, bottom, step):
                for name, gradient in _gradients(net, names, x[first:last]):
                    left[name][first - top : last - top] = gradient
                if tick is not None:
                    tick((done + last / n) / len(passes))
            for kept in left.values():
                gram[top:bottom, top:bottom] += (kept @ kept.T).cpu().double().numpy()
            for first, last in _cut(bottom, n, step):
                for name, gradient in _gradients(net, names, x[first:last]):
                    block = (left[name] @ gradient.T).cpu().double().numpy()
                    gram[top:bottom, first:last] += block
                    gram[first:last, top:bottom] += block.T
                if tick is not None:
                    tick((done + bottom / n) / len(passes))
        done += 1
    return gram


@dataclass(frozen=True, slots=True)
class Work:
    """What the Gram matrix of some images is made of."""

    images: int  # that pass forward and back
    gradients: int  # of one image and one layer
    multiply_adds: int  # of the products


def work(net: FiniteNetwork, x: torch.Tensor, images: int) -> Work:
    """Return the work of `empirical_gram` for `images` images like those of `x`."""
    passed, layers, products = 0, 0, 0
    for names, side in _passes(net, x, _block(net, x), None, images):
        numbers = sum(net.get_parameter(name).numel() for name in names)
        for top, bottom in _cut(0, images, side):
            passed += images - top
            layers += (images - top) * len(names)
            products += (bottom - top) * (images - top) * numbers
    return Work(passed, layers, products)


def seconds_an_image(net: FiniteNetwork, x: torch.Tensor) -> tuple[float, float]:
    """Return the seconds of one image forward and back, and of the gradient of one layer in the mean, measured."""
    names = trained_layers(net)
    step = min(8, _block(net, x), len(x))
    passes: list[float] = []
    gradients: list[float] = []
    while not passes or sum(passes) + sum(gradients) < TIMED:
        started = time.perf_counter()
        taps = _taps(net, names, x[:step])
        middle = time.perf_counter()
        for tap in taps:
            tap.gradient()
        passes.append(middle - started)
        gradients.append(time.perf_counter() - middle)
    return float(np.median(passes)) / step, float(np.median(gradients)) / step / len(names)


def _passes(
    net: FiniteNetwork, x: torch.Tensor, step: int, budget: int | None, images: int | None = None
) -> list[tuple[list[str], int]]:
    """Return the layers of each pass, and how many images' gradients it keeps."""
    n = len(x) if images is None else images
    budget = available_memory() // SHARE if budget is None else budget
    passes: list[tuple[list[str], int]] = []
    left = 0
    for name in trained_layers(net):
        row = net.get_parameter(name).numel() * x.element_size()
        if passes and n * row <= left:
            passes[-1][0].append(name)
        else:
            passes.append(([name], min(n, max(step, budget // row))))
            left = budget
        left -= n * row
    return passes


@dataclass(frozen=True, slots=True)
class _Tap:
    """A layer with what it read of some images, and the gradient of the output with respect to what it wrote."""

    name: str
    op: object
    read: torch.Tensor
    delta: torch.Tensor

    def gradient(self) -> torch.Tensor:
        """Return the gradient of every image, shape (n, weights of the layer)."""
        from torch.nn.functional import unfold

        if isinstance(self.op, Dense):
            found = self.delta[:, :, None] * self.read[:, None, :] / math.sqrt(self.read.shape[1])
        elif isinstance(self.op, Conv):
            q = self.op.kernel
            windows = unfold(self.read, q, padding=(q - 1) // 2, stride=self.op.stride)
            found = self.delta.flatten(2) @ windows.transpose(1, 2) / math.sqrt(self.read.shape[1] * q**2)
        else:
            raise TypeError(f"no gradient is known of the weights of a {type(self.op).__name__}")
        return found.flatten(1)


def _taps(net: FiniteNetwork, names: Sequence[str], images: torch.Tensor) -> list[_Tap]:
    layers = []
    value = images
    with torch.enable_grad():
        for index, read, value in net.steps(images):
            name = weight_name(net.architecture, index)
            if name in names:
                layers.append((name, net.architecture.nodes[index].op, read[0], value))
        # Of the weights no gradient is asked for, so none is computed.
        deltas = torch.autograd.grad(net.kappa * value.sum(), [written for *_, written in layers])
    return [_Tap(name, op, read.detach(), delta) for (name, op, read, _), delta in zip(layers, deltas, strict=True)]


def _gradients(net: FiniteNetwork, names: Sequence[str], images: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield layers with the gradients of images (b, c, h, w), shape (b, weights of the layer)."""
    for tap in _taps(net, names, images):
        yield tap.name, tap.gradient()


def _block(net: FiniteNetwork, x: torch.Tensor) -> int:
    weights = [weight for _, weight in net.named_parameters()]
    channels = max(weight.shape[0] for weight in weights)
    pixels = int(np.prod(x.shape[2:]))
    maps = 3 * len(weights) * channels * pixels
    windows = max(math.prod(weight.shape[1:]) for weight in weights if weight.ndim == 4) * pixels
    largest = max(weight.numel() for weight in weights)
    return int(min(64, max(1, ACTIVATIONS // (x.element_size() * (maps + windows + 2 * largest)))))


def _cut(start: int, stop: int, step: int) -> Iterator[tuple[int, int]]:
    for first in range(start, stop, step):
        yield first, min(first + step, stop)
