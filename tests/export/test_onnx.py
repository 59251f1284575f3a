"""model.onnx: what onnxruntime computes is what torch does, or there is no file."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from random_architectures import random_architecture

from nas_cntk.errors import BackendUnavailable, ModelError
from nas_cntk.export import onnx
from nas_cntk.validate.standard import StandardNetwork, standard_network

SHAPE = (6, 5, 3)


def network(seed: int) -> StandardNetwork:
    for other in range(seed, seed + 100):
        _, arch = random_architecture(other, SHAPE)
        if all(getattr(arch.nodes[index].op, "kernel", 1) < 99 for index in arch.live):
            break
    net = standard_network(arch, SHAPE, 3, width=8, seed=seed)
    with torch.no_grad():
        net.train()(torch.randn(32, 3, 6, 5, generator=torch.Generator().manual_seed(seed)))  # running moments
    return net.eval()


def images(n: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, *SHAPE)).astype(np.float32)


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="the onnx extra is not installed")
@pytest.mark.parametrize("seed", [0, 11, 30])  # a skip connection, a deep one, node twice
def test_onnxruntime_agrees_with_torch(seed: int, capfd: pytest.CaptureFixture[str]) -> None:
    net = network(seed)
    content = onnx.onnx_model(net, images(5))
    for n in (1, 2, 9):  # the number of images is free
        assert onnx.compare(content, net, images(n)) <= 1e-5
    assert b".py" not in content  # no trace of where it was made
    assert capfd.readouterr() == ("", "")
    with torch.no_grad():
        list(net.parameters())[-1].add_(0.01)  # the readout's bias
    assert onnx.compare(content, net, images(5)) > 1e-5  # the comparison sees a difference


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="the onnx extra is not installed")
def test_a_file_that_differs_is_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "compare", lambda content, network, x: 3e-4)
    with pytest.raises(ModelError, match="onnxruntime and torch differ by 3.0e-04"):
        onnx.onnx_model(network(0), images(3))
    monkeypatch.setattr(onnx, "compare", lambda content, network, x: float("nan"))
    with pytest.raises(ModelError, match="differ by nan"):
        onnx.onnx_model(network(0), images(3))

    def fails(*arguments: object, **named: object) -> None:
        raise RuntimeError("no such\noperator")

    monkeypatch.setattr(torch.onnx, "export", fails)
    with pytest.raises(ModelError, match=r"cannot be written as ONNX \(no such operator\)"):
        onnx.onnx_model(network(0), images(3))


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendUnavailable, match=r"--onnx needs onnx, onnxscript, onnxruntime.*nas-cntk\[onnx\]"):
        onnx.check_installed()
