"""The empirical tangent kernel of one random net: inner products of the gradients of its output.

It is built one layer at a time, or a few that fit in memory together: the gradients of all images with respect to one
layer's weights (147,456 numbers an image for a conv of 128 channels) are multiplied into the Gram matrix and dropped.
One pass forward and one back give what all those layers read and by how much the output follows what they write; the
gradient of an image is then one product of two matrices. Blocks of images are taken by as many threads as there are
cores, each with one thread of torch's own: torch's threads wait for each other after every step, which took twenty
times as long on 8x8 pixels beside other work.

Tried before: the gradient of each layer by itself, image by image under `vmap`: on one thread 2 to 4 times as slow.

It imports torch at its top, as `validate.finite` does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_cntk.kernels.budget import available_memory
from nas_cntk.ops import Conv, Dense
from nas_cntk.validate.finite import FiniteNetwork, weight_name
from nas_cntk.validate.graph import torch

SHARE = 4  # the gradients that are kept at a time take this part of the memory at most
ACTIVATIONS = 2**29  # bytes of activations of all blocks under way, roughly
ROWS = 128  # of a product at a time
TIMED = 0.5  # seconds

Float = NDArray[np.float64]
Tick = Callable[[float], None]
_Kept = dict[str, torch.Tensor]


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
    passes = _passes(net, x, step, budget)
    with _blocks_at_once(x) as each:
        for done, (names, side) in enumerate(passes):
            for top, bottom in _cut(0, n, side):
                left = {name: x.new_empty((bottom - top, net.get_parameter(name).numel())) for name in names}

                def keep(
                    block: tuple[int, int], names: Sequence[str] = names, left: _Kept = left, top: int = top
                ) -> int:
                    first, last = block
                    for tap in _taps(net, names, x[first:last]):
                        left[tap.name][first - top : last - top] = tap.gradient()
                    return last

                def multiply(
                    block: tuple[int, int], names: Sequence[str] = names, left: _Kept = left
                ) -> tuple[int, int, Float]:
                    first, last = block
                    found = x.new_zeros((len(next(iter(left.values()))), last - first), dtype=torch.float64)
                    for tap in _taps(net, names, x[first:last]):
                        found += (left[tap.name] @ tap.gradient().T).double()
                    return first, last, found.cpu().numpy()

                for last in each(keep, _cut(top, bottom, step)):
                    if tick is not None:
                        tick((done + last / n) / len(passes))

                def square(rows: tuple[int, int], left: _Kept = left) -> tuple[int, int, Float]:
                    first, last = rows
                    found = x.new_zeros((last - first, last), dtype=torch.float64)
                    for kept in left.values():
                        found += (kept[first:last] @ kept[:last].T).double()
                    return first, last, found.cpu().numpy()

                for first, last, found in each(square, _cut(0, bottom - top, ROWS)):
                    gram[top + first : top + last, top : top + last] += found
                    gram[top : top + first, top + first : top + last] += found[:, :first].T
                    if tick is not None:
                        tick((done + bottom / n) / len(passes))
                for first, last, found in each(multiply, _cut(bottom, n, step)):
                    gram[top:bottom, first:last] += found
                    gram[first:last, top:bottom] += found.T
                    if tick is not None:
                        tick((done + bottom / n) / len(passes))
    return gram


@contextmanager
def _blocks_at_once(x: torch.Tensor) -> Iterator[Callable[..., Iterator[Any]]]:
    """Yield a `map` whose calls run on all cores, one thread of torch's each; results come in order."""
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(_cores(x))
    torch.set_num_threads(1)
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


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
    """Return the seconds of one image forward and back, and of the gradient of one layer in the mean, measured.

    All cores take blocks at the same time, as `empirical_gram` does.
    """
    names = trained_layers(net)
    step = min(8, _block(net, x), len(x))
    passes: list[float] = []
    gradients: list[float] = []

    def timed(_: int) -> tuple[float, float]:
        started = time.perf_counter()
        taps = _taps(net, names, x[:step])
        middle = time.perf_counter()
        for tap in taps:
            tap.gradient()
        return middle - started, time.perf_counter() - middle

    cores = _cores(x)
    with _blocks_at_once(x) as each:
        deadline = time.perf_counter() + TIMED
        while not passes or time.perf_counter() < deadline:
            for a_pass, a_gradient in each(timed, range(cores)):
                passes.append(a_pass)
                gradients.append(a_gradient)
    share = step * cores
    return float(np.median(passes)) / share, float(np.median(gradients)) / share / len(names)


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


def _cores(x: torch.Tensor) -> int:
    return torch.get_num_threads() if x.device.type == "cpu" else 1


def _block(net: FiniteNetwork, x: torch.Tensor) -> int:
    weights = [weight for _, weight in net.named_parameters()]
    channels = max(weight.shape[0] for weight in weights)
    pixels = int(np.prod(x.shape[2:]))
    maps = 3 * len(weights) * channels * pixels
    windows = max(math.prod(weight.shape[1:]) for weight in weights if weight.ndim == 4) * pixels
    largest = max(weight.numel() for weight in weights)
    return int(min(64, max(1, ACTIVATIONS // _cores(x) // (x.element_size() * (maps + windows + 2 * largest)))))


def _cut(start: int, stop: int, step: int) -> Iterator[tuple[int, int]]:
    for first in range(start, stop, step):
        yield first, min(first + step, stop)
