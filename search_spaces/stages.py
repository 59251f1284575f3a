"""Pooling pyramids: stages of plain or residual convs, with average pooling by 2 between them."""

from nas_cntk import Architecture, Builder
from nas_cntk.search.spaces import Parameters, Trial, head, heads

MOST_STAGES = 3
MOST_CONVS = 3
KERNELS = [3, 5]


def propose(trial: Trial, image_shape: tuple[int, int, int]) -> Architecture:
    """Return 1 to 3 stages of 1 to 3 convs; a map of one row or column is not pooled further."""
    height, width, _ = image_shape
    b = Builder()
    x = b.input()
    for stage in range(trial.suggest_int("stages", 1, MOST_STAGES)):
        style = trial.suggest_categorical(f"style_{stage}", ["plain", "residual"])
        kernel = trial.suggest_categorical(f"kernel_{stage}", KERNELS)
        convs = trial.suggest_int(f"convs_{stage}", 1, MOST_CONVS)
        if stage:
            x = b.relu(x)
            if min(height, width) >= 2:
                x = b.avg_pool(x, 2, stride=2)
                height, width = height // 2, width // 2
        x = b.conv(x, kernel)  # a conv's output again: what a residual stage adds to, and a relu may read
        for _ in range(convs - 1):
            y = b.conv(b.relu(x), kernel)
            x = b.add(x, y) if style == "residual" else y
    b.dense(head(trial, b, b.relu(x), (height, width)))
    return b.build()


def siblings(params: Parameters) -> list[Parameters]:
    """Return the same network under other heads, then its beginnings, the longest first."""
    found = heads(params)
    for stage in range(params["stages"] - 1, -1, -1):
        kept = {**params, "stages": stage + 1}
        whole = kept[f"convs_{stage}"] - (stage == params["stages"] - 1)
        for convs in range(whole, 0, -1):
            found += heads({**kept, f"convs_{stage}": convs})
    return found
