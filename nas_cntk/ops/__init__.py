"""The ops, one file each: checks, output shape, kernel rule, finite layer, cost, in that order.

A node carries one of these values. `shape` is (h, w) for a map and () for a vector of features; arrays of covariance
are (n, h, w, h', w') for n pairs of images, in float64.
"""

from __future__ import annotations

from nas_cntk.ops._checks import Shape
from nas_cntk.ops.add import Add
from nas_cntk.ops.avg_pool import AvgPool
from nas_cntk.ops.conv import Conv
from nas_cntk.ops.dense import Dense
from nas_cntk.ops.flatten import Flatten
from nas_cntk.ops.global_avg_pool import GlobalAvgPool
from nas_cntk.ops.input import Input
from nas_cntk.ops.relu import Relu

Op = Input | Conv | Relu | AvgPool | Add | GlobalAvgPool | Flatten | Dense

ALL: tuple[type[Op], ...] = (Input, Conv, Relu, AvgPool, Add, GlobalAvgPool, Flatten, Dense)

__all__ = [
    "ALL",
    "Add",
    "AvgPool",
    "Conv",
    "Dense",
    "Flatten",
    "GlobalAvgPool",
    "Input",
    "Op",
    "Relu",
    "Shape",
]
