"""Preprocessing: scaling to float32, area averaging, standardising, and the content keys of images."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_cntk.data.dataset import Dataset
from nas_cntk.errors import DataError

CHUNK_VALUES = 1 << 19  # pixel values worked on at a time: 4 MiB in float64, near the processor
MAX_COPIED_VALUES = 1 << 24  # in float64 at a time, 128 MiB
MAX_RANKED_VALUES = 1 << 24  # sorting more float pixels than this would take longer than reading them


def chunks(x: NDArray[Any]) -> Iterator[slice]:
    """Slices over the images of x (n, h, w, c) of about ``CHUNK_VALUES`` values each."""
    step = max(1, CHUNK_VALUES // max(1, x[:1].size))
    for start in range(0, len(x), step):
        yield slice(start, min(start + step, len(x)))


def to_float(x: NDArray[Any], divisor: float, size: tuple[int, int]) -> NDArray[np.float32]:
    """Pixel values ``x / divisor`` as float32, averaged to ``size`` (height, width) where it differs."""
    n, h, w, c = x.shape
    out = np.empty((n, *size, c), dtype=np.float32)
    with np.errstate(over="ignore"):  # the caller looks for infinities
        for part in chunks(x):
            if size == (h, w):
                out[part] = x[part] if divisor == 1 else x[part].astype(np.float32) / np.float32(divisor)
            else:
                out[part] = area_average(x[part], size) / divisor
    return out


def area_average(x: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float64]:
    """Images x (n, h, w, c) averaged to (n, *size, c); each output pixel is the mean over its area.

    Works for any ratio, each input pixel weighing in by the area it shares with the output pixel.
    """
    rows = _average_rows(x, size[0])
    return np.swapaxes(_average_rows(np.swapaxes(rows, 1, 2), size[1]), 1, 2)


def overlap_weights(size: int, new_size: int, pixel: int) -> tuple[int, NDArray[np.float64]]:
    """Where an output pixel of one axis begins in the input, and the weights of the input pixels that it overlaps.

    A weight is the shared length over the length of an output pixel. Lengths are counted in units of 1/new_size of an
    input pixel, in which all edges are integers.
    """
    first, end = pixel * size // new_size, -(-(pixel + 1) * size // new_size)
    new, old = pixel * size, np.arange(first, end) * new_size
    shared = np.minimum(new + size, old + new_size) - np.maximum(new, old)
    weights: NDArray[np.float64] = np.maximum(shared, 0) / float(size)
    return first, weights


def _average_rows(x: NDArray[Any], new_size: int) -> NDArray[np.float64]:
    """Axis 1 of x averaged to ``new_size``, one output row at a time so that no whole copy is needed."""
    n, size, *rest = x.shape
    out = np.empty((n, new_size, *rest), dtype=np.float64)
    for i in range(new_size):
        first, weights = overlap_weights(size, new_size, i)
        # In one go, but for images whose copy in float64 would be large: a photograph brought to a few pixels.
        step = max(1, MAX_COPIED_VALUES // max(1, n * math.prod(rest)))
        for start in range(0, len(weights), step):
            some = weights[start : start + step]
            rows = x[:, first + start : first + start + len(some)]
            part = np.tensordot(some, rows.astype(np.float64), axes=(0, 1))
            out[:, i] = part if start == 0 else out[:, i] + part
    return out


def standardise(dataset: Dataset) -> Dataset:
    """The dataset with each channel shifted and scaled by mean and deviation over the training images.

    Computed in float64, stored in float32. A constant channel is only shifted. The content keys, which
    come from the pixels as they were read, and the fingerprint stay.

    Raises: DataError where images are too far from the training images for float32.
    """
    x_train, x_test = np.ascontiguousarray(dataset.x_train), np.ascontiguousarray(dataset.x_test)
    mean, deviation = channel_moments(x_train)
    deviation = np.where(deviation == 0, 1.0, deviation)
    keys = content_keys(dataset.x_train) if dataset.keys is None else dataset.keys
    return replace(
        dataset,
        x_train=_affine(x_train, mean, deviation),
        x_test=_affine(x_test, mean, deviation),
        keys=keys,
    )


def channel_moments(x: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation (c,) of each channel of x (n, h, w, c), in two passes of float64."""
    channels, count = x.shape[-1], x[..., 0].size
    total = np.zeros(channels)
    for flat in _flat(x):
        total += flat.sum(axis=0, dtype=np.float64).reshape(-1, channels).sum(axis=0)
    mean = total / count
    centre = _tiled(mean, x)
    square = np.zeros(channels)
    for flat in _flat(x):
        distance = flat - centre
        square += np.einsum("np,np->p", distance, distance).reshape(-1, channels).sum(axis=0)
    return mean, np.sqrt(square / count)


def _affine(x: NDArray[np.float32], mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> NDArray[np.float32]:
    out = np.empty(x.shape, dtype=np.float32)
    centre, scale = _tiled(mean, x), _tiled(deviation, x)
    for flat, result in zip(_flat(x), _flat(out), strict=True):
        with np.errstate(over="ignore"):
            np.divide(flat - centre, scale, out=result, casting="same_kind")
        if not np.isfinite(result).all():
            raise DataError("pixel values are too far from those of the training images: scale all images alike")
    return out


def _flat(x: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Views (images, h * w * c) of x, chunk by chunk: NumPy is slow where the last axis is only c long."""
    assert x.flags.c_contiguous
    for part in chunks(x):
        yield x[part].reshape(part.stop - part.start, -1)


def _tiled(per_channel: NDArray[np.float64], x: NDArray[Any]) -> NDArray[np.float64]:
    """Channel values (c,) as one row (h * w * c,) for ``_flat``."""
    return np.tile(per_channel, x.shape[1] * x.shape[2])


def content_keys(x: NDArray[Any]) -> NDArray[np.uint64]:
    """One hash (n,) per image of x (n, h, w, c), by which images are put in an order of their own.

    What is hashed is the rank of each pixel value among all values that occur, so that the same images
    stored as 0..16, as 0..240 or as fractions have the same keys. Beyond 2^24 float pixels the values
    themselves are hashed.
    """
    if x.dtype in (np.uint8, np.uint16):
        present = np.zeros(np.iinfo(x.dtype).max + 1, dtype=bool)
        for part in chunks(x):
            present[x[part]] = True
        rank_of = np.cumsum(present) - 1
        table = rank_of.astype(_narrowest(int(present.sum())))
        return np.concatenate([_hash_images(table[x[part]]) for part in chunks(x)])
    if x.size <= MAX_RANKED_VALUES:
        values, ranks = np.unique(x, return_inverse=True)
        return _hash_images(ranks.reshape(x.shape).astype(_narrowest(values.size)))
    return _hash_images(x)


def _narrowest(levels: int) -> type[np.unsignedinteger[Any]]:
    """The dtype depends on the number of levels alone, so that equal ranks are equal bytes."""
    return np.uint8 if levels <= 1 << 8 else np.uint16 if levels <= 1 << 16 else np.uint32


def _hash_images(ranks: NDArray[Any]) -> NDArray[np.uint64]:
    little = np.ascontiguousarray(ranks.astype(ranks.dtype.newbyteorder("<"), copy=False))
    digests = b"".join(hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in little)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)
