"""The benchmark's own finite network of a cell: 5 cells a stage of 16, 32 and 64 channels, with batch norm.

Source: Dong and Yang, "NAS-Bench-201" (2020), section 2.1, and the program that trained it.
"""

from __future__ import annotations

from nas_cntk.errors import BackendUnavailable
from nas_cntk.nasbench201.cells import CELLS, CHANNELS, EDGES, NODES, STAGES, parse

try:
    import torch
    from torch import nn
except ImportError:
    raise BackendUnavailable("finite networks need torch, which is not installed; install nas-cntk[train]") from None


def network(text: str, num_classes: int = 10, image_channels: int = 3) -> nn.Module:
    """Return the untrained network of a cell, input (n, c, h, w), logits (n, num_classes).

    Weights are drawn by torch's own generator as torch initialises convs and linear layers.

    Raises:
        ArchitectureError: if `text` is no cell. BackendUnavailable: on import, if torch is not installed.
    """
    ops = parse(text)
    layers: list[nn.Module] = [
        nn.Conv2d(image_channels, CHANNELS, 3, padding=1, bias=False),
        nn.BatchNorm2d(CHANNELS),
    ]
    for stage in range(STAGES):
        channels = CHANNELS << stage
        if stage:
            layers.append(Reduction(channels // 2, channels))
        layers += [Cell(ops, channels) for _ in range(CELLS)]
    layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(channels, num_classes))


class Cell(nn.Module):
    """Four nodes; each is the sum of its edges' ops of the nodes before it."""

    def __init__(self, ops: tuple[str, ...], channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList(_edge(op, channels) for op in ops)
        self.live = tuple(op != "none" for op in ops)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the last node, of the same shape as `x` (n, c, h, w)."""
        values = [x]
        for node in range(1, NODES):
            total = torch.zeros_like(x)
            for at, (source, target) in enumerate(EDGES):
                if target == node and self.live[at]:
                    total = total + self.edges[at](values[source])
            values.append(total)
        return values[-1]


class Reduction(nn.Module):
    """The residual block between two stages: half the rows and columns, twice the channels."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, out_channels, 3, stride=2)
        self.second = _conv(out_channels, out_channels, 3)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(channels, out_channels, 1, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return shape (n, out_channels, h / 2, w / 2)."""
        inner: torch.Tensor = self.second(self.first(x))
        return inner + self.shortcut(x)  # type: ignore[no-any-return]


def _conv(channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, out_channels, kernel, stride, padding=(kernel - 1) // 2, bias=False),
        nn.BatchNorm2d(out_channels),
    )


def _edge(op: str, channels: int) -> nn.Module:
    if op == "nor_conv_1x1":
        return _conv(channels, channels, 1)
    if op == "nor_conv_3x3":
        return _conv(channels, channels, 3)
    if op == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return nn.Identity()
