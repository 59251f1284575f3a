"""Residual networks in the pre-activation form, the only one whose kernel has a closed form."""

from nas_cntk import Architecture, Builder
from nas_cntk.search.spaces import Parameters, Trial, head, heads

MOST_STAGES = 3
MOST_BLOCKS = 3
KERNELS = [3, 5]


def block(b: Builder, x: int, kernel: int, stride: int) -> int:
    """Append relu, conv, relu, conv beside a shortcut; a strided block gives its shortcut a 1x1 conv."""
    y = b.conv(b.relu(x), kernel, stride)
    y = b.conv(b.relu(y), kernel)
    return b.add(y, x if stride == 1 else b.conv(x, 1, stride))


def propose(trial: Trial, image_shape: tuple[int, int, int]) -> Architecture:
    """Return a stem and 1 to 3 stages of 1 to 3 blocks; later stages may begin with stride 2."""
    height, width, _ = image_shape
    b = Builder()
    x = b.conv(b.input(), trial.suggest_categorical("stem_kernel", KERNELS))
    for stage in range(trial.suggest_int("stages", 1, MOST_STAGES)):
        # The first stage sees the whole image, as in the networks this imitates.
        stride = trial.suggest_categorical(f"stride_{stage}", [1, 2]) if stage else 1
        kernel = trial.suggest_categorical(f"kernel_{stage}", KERNELS)
        for index in range(trial.suggest_int(f"blocks_{stage}", 1, MOST_BLOCKS)):
            x = block(b, x, kernel, stride if index == 0 else 1)
        height, width = -(-height // stride), -(-width // stride)
    b.dense(head(trial, b, b.relu(x), (height, width)))
    return b.build()


def siblings(params: Parameters) -> list[Parameters]:
    """Return the same network under other heads, then its beginnings, the longest first."""
    found = heads(params)
    for stage in range(params["stages"] - 1, -1, -1):
        kept = {**params, "stages": stage + 1}
        whole = kept[f"blocks_{stage}"] - (stage == params["stages"] - 1)
        for blocks in range(whole, 0, -1):
            found += heads({**kept, f"blocks_{stage}": blocks})
    return found
