"""Random legal architectures and images, with every form of sum on purpose."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas_cntk import Architecture, Builder
from nas_cntk.errors import IllegalArchitecture

# Forms of sums of correlated branches that every tenth architecture is built around.
FORMS = (
    "skip",
    "pool of the same node",
    "node twice",
    "twin convs",
    "relu + its own input",
    "relu + relu",
    "relu + pooled relu",
    "relu + conv",
    "free",
    "free",
)


def random_architecture(seed: int, image_shape: tuple[int, int, int]) -> tuple[str, Architecture]:
    """Return the name of a form and a legal architecture that has it, for images of `image_shape` (h, w, c)."""
    for attempt in range(1000):
        rng = np.random.default_rng([seed, attempt])
        form = FORMS[seed % len(FORMS)]
        try:
            arch = _draw(rng, form)
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


def _draw(rng: np.random.Generator, form: str) -> Architecture:
    b = Builder()
    x = b.input()
    if rng.random() < 0.1:
        x = b.avg_pool(x, 3, 1, "same")
    x = _conv(b, rng, x, first=True)
    gaussian = True  # x is a sum of conv outputs: a relu may read it
    for step in range(int(rng.integers(1, 4))):
        if step == 0 and form != "free":
            x, gaussian = _form(b, rng, x, form)
        else:
            x, gaussian = _step(b, rng, x, gaussian)
    if gaussian and rng.random() < 0.8:
        x = b.relu(x)
    head = rng.integers(4)
    if head == 0:
        x = b.flatten(x)
    elif head == 1:
        x = b.flatten(b.avg_pool(x, int(rng.integers(1, 4)), int(rng.integers(1, 3))))
    elif head == 2:
        x = b.global_avg_pool(b.avg_pool(x, 3, 1, "same")) if rng.random() < 0.3 else b.global_avg_pool(x)
    else:
        x = b.global_avg_pool(x)
    b.dense(x, trainable=bool(rng.random() < 0.8))
    return b.build()


def _conv(b: Builder, rng: np.random.Generator, x: int, first: bool = False, stride: int | None = None) -> int:
    kernel = int(rng.choice([1, 3, 5], p=[0.25, 0.6, 0.15]))
    if stride is None:
        stride = int(rng.choice([1, 2, 3], p=[0.8, 0.15, 0.05])) if not first else 1
    return b.conv(x, kernel, stride, bool(rng.random() < 0.8))


def _pool(b: Builder, rng: np.random.Generator, x: int) -> int:
    if rng.random() < 0.5:
        return b.avg_pool(x, int(rng.choice([1, 3, 5])), int(rng.choice([1, 2])), "same")
    return b.avg_pool(x, int(rng.integers(1, 4)), int(rng.integers(1, 4)), "valid")


def _form(b: Builder, rng: np.random.Generator, x: int, form: str) -> tuple[int, bool]:
    if form == "skip":
        return b.add(x, _conv(b, rng, b.relu(x), stride=1)), True
    if form == "pool of the same node":
        return b.add(x, b.avg_pool(x, int(rng.choice([3, 5])), 1, "same")), True
    if form == "node twice":
        return b.add(x, x, *([x] * int(rng.integers(0, 2)))), True
    if form == "twin convs":
        source = b.relu(x) if rng.random() < 0.7 else x
        kernel, trainable = int(rng.choice([1, 3])), bool(rng.random() < 0.8)
        twins = [b.conv(source, kernel, 1, trainable) for _ in range(int(rng.integers(2, 4)))]
        if rng.random() < 0.5:
            return b.add(*twins, x), True
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
    assert form == "relu + conv"
    relu = b.relu(x)
    return b.add(relu, _conv(b, rng, relu if rng.random() < 0.5 else x, stride=1)), False


def _step(b: Builder, rng: np.random.Generator, x: int, gaussian: bool) -> tuple[int, bool]:
    kind = rng.integers(7)
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
        return _form(b, rng, _conv(b, rng, x), str(rng.choice(FORMS[:8])))
    if kind == 4 and gaussian:
        # Relus of two sizes meet: one pooled after, one before.
        size = int(rng.choice([2, 3]))
        return b.add(b.avg_pool(b.relu(x), size, size), b.relu(b.avg_pool(x, size, size))), False
    return _conv(b, rng, b.relu(x) if gaussian else x), True
