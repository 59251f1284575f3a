"""Plain chains: convs of any kernel size, one after the other, under one of three heads."""

from nas_cntk import Architecture, Builder
from nas_cntk.search.spaces import Parameters, Trial, head, heads

DEEPEST = 8
KERNELS = [1, 3, 5]


def propose(trial: Trial, image_shape: tuple[int, int, int]) -> Architecture:
    """Return a chain of 1 to 8 convs; nothing shrinks the map, so every image size fits."""
    height, width, _ = image_shape
    b = Builder()
    x = b.input()
    for layer in range(trial.suggest_int("depth", 1, DEEPEST)):
        kernel = trial.suggest_categorical(f"kernel_{layer}", KERNELS)
        x = b.relu(b.conv(x, kernel))
    b.dense(head(trial, b, x, (height, width)))
    return b.build()


def siblings(params: Parameters) -> list[Parameters]:
    """Return the same chain under other heads, then its beginnings, the longest first."""
    return [other for depth in range(params["depth"], 0, -1) for other in heads({**params, "depth": depth})]
