"""The empirical tangent kernel of one random net: inner products of the gradients of its output.

It is built one layer at a time: the gradient of a block of images with respect to one layer's weights (147,456
numbers an image for a conv of 128 channels) is multiplied into the Gram matrix and dropped. It imports torch at its
top, as `validate.finite` does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from nas_cntk.validate.finite import FiniteNetwork
from nas_cntk.validate.graph import torch

BUDGET = 2**30  # bytes of gradients kept at a time
ACTIVATIONS = 2**28  # bytes of activations of a block of images, roughly
TIMED = 0.5  # seconds

Float = NDArray[np.float64]
Tick = Callable[[float], None]


def trained_layers(net: FiniteNetwork) -> list[str]:
    """Return the names of the weights that the gradient is taken of: those of the trainable layers."""
    return [name for name, weight in net.named_parameters() if weight.requires_grad]


def empirical_gram(net: FiniteNetwork, x: torch.Tensor, *, budget: int = BUDGET, tick: Tick | None = None) -> Float:
    """Return the Gram matrix (n, n) of the gradients of a net with one output, for images (n, c, h, w).

    Args:
        budget: bytes of one layer's gradients that are kept; beyond it the images are taken in blocks, and the
            gradients of later blocks computed again for each.
        tick: called between blocks with the fraction done; may raise to end the computation.

    Source: sections 3.2 and 5.2.
    """
    n = len(x)
    names = trained_layers(net)
    gram: Float = np.zeros((n, n))
    step = _block(net, x)
    for number, name in enumerate(names):
        width = dict(net.named_parameters())[name].numel()
        side = max(step, budget // (width * x.element_size()))
        gradients = _gradients(net, name)
        for top in range(0, n, side):
            bottom = min(n, top + side)
            left = torch.empty((bottom - top, width), dtype=x.dtype, device=x.device)
            for first, last in _cut(top, bottom, step):
                left[first - top : last - top] = gradients(x[first:last])
                if tick is not None:
                    tick((number + last / n) / len(names))
            gram[top:bottom, top:bottom] += (left @ left.T).cpu().double().numpy()
            for first, last in _cut(bottom, n, step):
                block = (left @ gradients(x[first:last]).T).cpu().double().numpy()
                gram[top:bottom, first:last] += block
                gram[first:last, top:bottom] += block.T
                if tick is not None:
                    tick((number + bottom / n) / len(names))
    return gram


def seconds_a_layer(net: FiniteNetwork, x: torch.Tensor) -> float:
    """Return the seconds that the gradient of one image takes in the mean over the layers, measured."""
    names = trained_layers(net)
    step = min(8, _block(net, x), len(x))
    chosen = dict.fromkeys((names[0], names[len(names) // 2], names[-1]))
    total = 0.0
    for name in chosen:
        gradients = _gradients(net, name)
        gradients(x[:step])
        times: list[float] = []
        while not times or sum(times) < TIMED / len(chosen):
            started = time.perf_counter()
            gradients(x[:step])
            times.append(time.perf_counter() - started)
        total += float(np.median(times)) / step
    return total / len(chosen)


def _gradients(net: FiniteNetwork, name: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the function from images (b, c, h, w) to the gradients (b, weights of the layer)."""
    from torch.func import functional_call, grad, vmap

    weights = {key: weight.detach() for key, weight in net.named_parameters()}

    def output(weight: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = functional_call(net, {**weights, name: weight}, (image[None],))
        return found.sum()

    per_image = vmap(grad(output), in_dims=(None, 0))
    return lambda images: per_image(weights[name], images).flatten(1)


def _block(net: FiniteNetwork, x: torch.Tensor) -> int:
    weights = [weight for _, weight in net.named_parameters()]
    channels = max(weight.shape[0] for weight in weights)
    maps = 3 * len(weights) * channels * int(np.prod(x.shape[2:]))
    largest = max(weight.numel() for weight in weights)
    return int(min(64, max(1, ACTIVATIONS // (x.element_size() * (maps + 2 * largest)))))


def _cut(start: int, stop: int, step: int) -> Iterator[tuple[int, int]]:
    for first in range(start, stop, step):
        yield first, min(first + step, stop)
