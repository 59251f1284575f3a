"""Images that came in several parts, and what they are known by."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from nas_cntk.errors import KernelError

HASH_BYTES = 16


class Images:
    """Parts of a growing sequence of images, kept by reference: a matrix need not hold a second copy of its data."""

    def __init__(self) -> None:
        self.parts: list[NDArray[np.floating]] = []
        self.hashes: NDArray[np.uint8] = np.empty((0, HASH_BYTES), dtype=np.uint8)  # one an image

    def __len__(self) -> int:
        return len(self.hashes)

    def with_more(self, part: NDArray[np.floating]) -> Images:
        """Return these images followed by others.

        Raises:
            KernelError: if the images that were there are not what they were, or the others have another dtype.
        """
        self.check()
        if self.parts and part.dtype != self.parts[0].dtype:
            raise KernelError(f"these images are {part.dtype}, those before {self.parts[0].dtype}; give one dtype")
        longer = Images()
        longer.parts = [*self.parts, part]
        longer.hashes = np.concatenate([self.hashes, hashes(part)])
        return longer

    def check(self) -> None:
        """Raise KernelError if an image was changed since it came."""
        if self.parts and not np.array_equal(np.concatenate([hashes(part) for part in self.parts]), self.hashes):
            raise KernelError("the images of this matrix were changed in place since it was made; give it a copy")

    def take(self, start: int, stop: int) -> NDArray[np.floating]:
        """Return images start to stop, shape (stop - start, h, w, c)."""
        pieces, first = [], 0
        for part in self.parts:
            a, b = max(start - first, 0), min(stop - first, len(part))
            if a < b:
                pieces.append(part[a:b])
            first += len(part)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def hashes(images: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return one hash an image, shape (n, 16)."""
    found = [hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=HASH_BYTES).digest() for image in images]
    return np.frombuffer(b"".join(found), dtype=np.uint8).reshape(len(images), HASH_BYTES)


def hash_of_all(hashes: NDArray[np.uint8]) -> str:
    """Return one hash of a sequence of images, for a name: 16 hexadecimal digits."""
    return hashlib.blake2b(hashes.tobytes(), digest_size=8).hexdigest()
