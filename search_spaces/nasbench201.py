"""NAS-Bench-201: one cell of six edges, each one of five ops, repeated in three stages; 15,625 proposals.

The kernel's network has one cell a stage, no batch norm and no widths. Parameters, FLOPs and the scores of finite
networks are those of the benchmark's own network: five cells a stage of 16, 32 and 64 channels, with batch norm. Edges
that nothing reads are left out, so that equal networks have equal costs.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nas_cntk import Architecture, nasbench201
from nas_cntk.errors import IllegalArchitecture
from nas_cntk.search.spaces import Trial

if TYPE_CHECKING:
    import torch


# Of one head and one depth: there it ranks best of the kernel's own scores, by far (docs/trust.md).
SCORE = "alignment_gain"


def propose(trial: Trial, image_shape: tuple[int, int, int]) -> Architecture:
    """Return the network of a cell; one whose output does not see its input is refused."""
    ops = {f"op_{i}_{j}": trial.suggest_categorical(f"op_{i}_{j}", nasbench201.OPS) for i, j in nasbench201.EDGES}
    text = nasbench201.text_of(ops)
    if not nasbench201.is_live(text):
        raise IllegalArchitecture(f"dead cell: the output does not see the input in {text}")
    return nasbench201.architecture(text)


def finite(params: Mapping[str, str], image_shape: tuple[int, int, int], num_classes: int) -> "torch.nn.Module":
    """Return the benchmark's own network, untrained, input (n, c, h, w), without edges that nothing reads."""
    from nas_cntk.nasbench201.network import network

    return network(_pruned(params), num_classes, image_shape[2])


def cost(params: Mapping[str, str], image_shape: tuple[int, int, int], num_classes: int) -> dict[str, int]:
    """Return parameters and multiply-adds of that network."""
    weights, flops = nasbench201.sizes(_pruned(params), image_shape, num_classes)
    return {"params": weights, "flops": flops}


def _pruned(params: Mapping[str, str]) -> str:
    return nasbench201.pruned(nasbench201.text_of(params))
