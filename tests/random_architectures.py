"""Random legal architectures and images, with every form of sum on purpose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas_cntk import Architecture, Builder
from nas_cntk.errors import IllegalArchitecture

# Forms of sums of correlated branches: the seed chooses which one an architecture is built around.
FORMS = (
    "skip",
    "pool of the same node",
    "node twice",
    "twin convs",
    "relu + its own input",
    "relu + relu",
    "relu + pooled relu",
    "relu + conv",
    "nested adds",
    "two roads of one size",
    "free",
    "deep",
)

# (h, w, c): square and not, one position, one row, one column, gray and up to four channels.
SHAPES = (
    (5, 4, 3),
    (6, 6, 1),
    (1, 1, 1),
    (4, 6, 2),
    (7, 3, 4),
    (1, 5, 1),
    (5, 5, 1),
    (3, 1, 3),
    (6, 5, 1),
    (2, 2, 2),
    (8, 6, 3),
    (1, 1, 4),
    (4, 4, 1),
)


@dataclass(frozen=True, slots=True)
class Case:
    """An architecture and the images of one comparison; `name` says which one it is when it fails."""

    name: str
    arch: Architecture
    x1: NDArray[np.float64]  # shape: (n1, h, w, c)
    x2: NDArray[np.float64]  # shape: (n2, h, w, c)


def random_case(seed: int) -> Case:
    """Return case number `seed`: forms and image shapes take turns, so that every form meets every shape."""
    shape = SHAPES[seed % len(SHAPES)]
    form, arch = random_architecture(seed, shape)
    x = random_images(seed, 5, shape)
    # The third image of x1 is the first of x2: equal images on both sides without being a symmetric matrix.
    return Case(f"{seed}: {form} on {shape}: {arch.to_json()}", arch, x[:3], np.concatenate([x[2:], x[1:2]]))


def random_architecture(seed: int, image_shape: tuple[int, int, int]) -> tuple[str, Architecture]:
    """Return the name of a form and a legal architecture that has it, for images of `image_shape` (h, w, c)."""
    for attempt in range(1000):
        rng = np.random.default_rng([seed, attempt])
        form = FORMS[seed % len(FORMS)]
        try:
            arch = _draw(rng, form, gray=image_shape[2] == 1)
            arch.check(image_shape)
        except IllegalArchitecture:
            continue
        if arch.trainable:
            return form, arch
    raise AssertionError("no legal architecture in 1000 draws")


def random_images(seed: int, n: int, image_shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Return images, shape (n, h, w, c): Gaussian, one of them black in a corner and one constant."""
    rng = np.random.default_rng([seed, 1])
    x = rng.standard_normal((n, *image_shape))
    h, w, _ = image_shape
    x[0, : (h + 1) // 2, : (w + 2) // 2] = 0.0
    if n > 1:
        x[1] = rng.standard_normal(image_shape[2])
    return x


def _draw(rng: np.random.Generator, form: str, gray: bool) -> Architecture:
    b = Builder()
    x = b.input()
    if rng.random() < 0.15:
        x = _pool(b, rng, x) if rng.random() < 0.3 else b.avg_pool(x, 3, 1, "same")
    if gray and rng.random() < 0.5:
        x = b.conv(x, 1, 1, bool(rng.random() < 0.8))  # every correlation is 1 or -1
    else:
        x = _conv(b, rng, x, stride=1)
    gaussian = True  # x is a sum of conv outputs: a relu may read it
    if form not in ("free", "deep"):
        x, gaussian = _form(b, rng, x, form)
    for _ in range(int(rng.integers(6, 12) if form == "deep" else rng.integers(1, 4))):
        x, gaussian = _step(b, rng, x, gaussian)
        if rng.random() < 0.15:
            _dead(b, rng, x)
    if gaussian and rng.random() < 0.8:
        x = b.relu(x)
    head = rng.integers(4)
    if head == 0:
        x = b.flatten(x)
    elif head == 1:
        x = b.flatten(b.avg_pool(x, int(rng.integers(1, 4)), int(rng.integers(1, 3))))
    elif head == 2:
        x = b.global_avg_pool(_pool(b, rng, x))
    else:
        x = b.global_avg_pool(x)
    b.dense(x, trainable=bool(rng.random() < 0.8))
    return b.build()


def _dead(b: Builder, rng: np.random.Generator, x: int) -> None:
    # Nodes that nobody reads; among them what would be illegal if somebody did.
    kind = rng.integers(4)
    if kind == 0:
        b.relu(b.add(b.relu(b.conv(x, 3)), x))
    elif kind == 1:
        b.avg_pool(x, 1023)
    elif kind == 2:
        b.dense(b.flatten(x))
    else:
        b.conv(x, 3, 2)


def _conv(b: Builder, rng: np.random.Generator, x: int, stride: int | None = None) -> int:
    kernel = int(rng.choice([1, 3, 5, 9, 1023], p=[0.25, 0.57, 0.1, 0.06, 0.02]))
    if stride is None:
        stride = int(rng.choice([1, 2, 3, 7, 1023], p=[0.75, 0.15, 0.05, 0.03, 0.02]))
    return b.conv(x, kernel, stride, bool(rng.random() < 0.8))


def _pool(b: Builder, rng: np.random.Generator, x: int) -> int:
    if rng.random() < 0.5:
        return b.avg_pool(x, int(rng.choice([1, 3, 5, 1023])), int(rng.choice([1, 2, 4])), "same")
    return b.avg_pool(x, int(rng.integers(1, 4)), int(rng.integers(1, 5)), "valid")


def _form(b: Builder, rng: np.random.Generator, x: int, form: str) -> tuple[int, bool]:
    if form == "skip":
        return b.add(x, _conv(b, rng, b.relu(x), stride=1)), True
    if form == "pool of the same node":
        pooled = b.avg_pool(x, int(rng.choice([3, 5])), 1, "same")
        if rng.random() < 0.3:
            pooled = b.avg_pool(pooled, 3, 1, "same")
        return b.add(x, pooled), True
    if form == "node twice":
        return b.add(x, x, *([x] * int(rng.integers(0, 2)))), True
    if form == "twin convs":
        source = b.relu(x) if rng.random() < 0.7 else x
        kernel, trainable = int(rng.choice([1, 3])), bool(rng.random() < 0.8)
        twins = [b.conv(source, kernel, 1, trainable) for _ in range(int(rng.integers(2, 4)))]
        if rng.random() < 0.3:
            return b.add(*twins, x), True
        if rng.random() < 0.4:
            return b.add(*(b.relu(twin) for twin in twins)), False
        # Twins with different readers.
        return b.add(_conv(b, rng, b.relu(twins[0]), stride=1), twins[1]), True
    if form == "relu + its own input":
        return b.add(b.relu(x), x), False
    if form == "relu + relu":
        other = _conv(b, rng, b.relu(x), stride=1)
        if rng.random() < 0.5:
            other = b.add(other, x)
        return b.add(b.relu(x), b.relu(other)), False
    if form == "relu + pooled relu":
        relu = b.relu(x)
        pooled = b.avg_pool(x, 3, 1, "same")
        branches = [relu, b.avg_pool(relu, 3, 1, "same"), b.relu(pooled)]
        chosen = [branches[i] for i in rng.choice(3, size=int(rng.integers(2, 4)), replace=False)]
        return b.add(*chosen), False
    if form == "nested adds":
        y = _conv(b, rng, b.relu(x), stride=1)
        total = b.add(x, y)
        for _ in range(int(rng.integers(1, 5))):
            total = b.add(total, *rng.choice([x, y, total], size=int(rng.integers(0, 4))).tolist())
        return (b.add(total, b.relu(x), b.relu(total)), False) if rng.random() < 0.3 else (total, True)
    if form == "two roads of one size":
        size = int(rng.choice([2, 3]))
        down = b.conv(x, 3, size)
        across = b.avg_pool(x, 3, size, "same")
        return (b.add(down, across), True) if rng.random() < 0.5 else (b.add(b.relu(down), b.relu(across)), False)
    assert form == "relu + conv"
    relu = b.relu(x)
    return b.add(relu, _conv(b, rng, relu if rng.random() < 0.5 else x, stride=1)), False


def _step(b: Builder, rng: np.random.Generator, x: int, gaussian: bool) -> tuple[int, bool]:
    kind = rng.integers(8)
    if kind == 0:
        return _pool(b, rng, x), gaussian
    if kind == 1 and gaussian:
        return b.relu(x), False
    if kind == 2 and gaussian:
        # A bottleneck cut in a pooled shortcut: two maps of one size by different roads.
        stride = int(rng.choice([1, 2]))
        shortcut = b.avg_pool(x, stride, stride) if rng.random() < 0.5 else b.avg_pool(x, 3, stride, "same")
        return b.add(b.conv(b.relu(x), 3, stride), shortcut), True
    if kind == 3:
        return _form(b, rng, _conv(b, rng, x), str(rng.choice(FORMS[:10])))
    if kind == 4 and gaussian:
        # Relus of two sizes meet: one pooled after, one before.
        size = int(rng.choice([2, 3]))
        return b.add(b.avg_pool(b.relu(x), size, size), b.relu(b.avg_pool(x, size, size))), False
    return _conv(b, rng, b.relu(x) if gaussian else x), True
