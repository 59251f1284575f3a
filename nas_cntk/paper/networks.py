"""The paper's networks as architectures: vanilla, global average pooling with frozen ends, fully connected."""

from __future__ import annotations

from nas_cntk.architecture import Architecture, Builder


def vanilla(depth: int) -> Architecture:
    """Return depth - 1 convs of 3x3 with relu, flatten, and the readout; every layer is trained.

    Source: section 4.1.
    """
    b = Builder()
    x = b.input()
    for _ in range(depth - 1):
        x = b.relu(b.conv(x, 3))
    b.dense(b.flatten(x))
    return b.build()


def pooled(depth: int) -> Architecture:
    """Return the same with global average pooling; the first conv and the readout are not trained.

    Source: section 4.2.
    """
    b = Builder()
    x = b.input()
    for layer in range(depth - 1):
        x = b.relu(b.conv(x, 3, trainable=layer > 0))
    b.dense(b.global_avg_pool(x), trainable=False)
    return b.build()


def fully_connected(depth: int) -> Architecture:
    """Return depth - 1 hidden layers and the readout, for images of 1x1 pixel whose channels are the inputs.

    Source: section 3.1, equation 6.
    """
    b = Builder()
    x = b.input()
    for _ in range(depth - 1):
        x = b.relu(b.conv(x, 1))
    b.dense(b.flatten(x))
    return b.build()
