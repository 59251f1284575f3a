"""model.py: the same network by the same names, whatever the architecture, and a text that a person can read."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import pytest
import torch
from random_architectures import SHAPES, random_architecture

from nas_cntk import Architecture, Builder
from nas_cntk.export.source import example, model_source
from nas_cntk.validate.standard import standard_network


def source(arch: Architecture, shape: tuple[int, int, int], **changed: Any) -> str:
    settings: dict[str, Any] = {
        "width": 5,
        "batch_norm": True,
        "mean": [0.5] * shape[2],
        "deviation": [0.25] * shape[2],
        "pixels": "8-bit pixel values divided by 255",
        "title": "A network.",
        "about": "Nothing more.",
        "trained": True,
        "photos": None,
    }
    classes = changed.pop("classes", ["a", "b", "c"])
    return model_source(arch, shape, classes, **{**settings, **changed})


def module(text: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    exec(compile(text, "model.py", "exec"), namespace)
    return namespace


def block(text: str, method: str) -> list[str]:
    """The lines of a method, without comments and docstring."""
    body = re.search(rf"    def {method}\(.*?:\n(.*?)(?=\n    def |\Z)", text, re.S)
    assert body is not None
    lines = [line.split("  #")[0].strip() for line in body[1].splitlines()]
    return [line for line in lines if line and not line.startswith('"""')]


def test_fifty_random_architectures_equal_the_network_that_is_trained() -> None:
    done = 0
    for seed in range(60):
        shape = SHAPES[seed % len(SHAPES)]
        form, arch = random_architecture(seed, shape)
        if any(getattr(arch.nodes[index].op, "kernel", 1) > 99 for index in arch.live):
            continue  # a million weights times the width squared
        batch_norm = seed % 3 != 0
        twin = standard_network(arch, shape, 3, width=5, batch_norm=batch_norm, seed=seed)
        written = module(source(arch, shape, batch_norm=batch_norm))["Network"]()
        written.load_state_dict(twin.state_dict())
        gradients = {name: weight.requires_grad for name, weight in twin.named_parameters()}
        assert {name: weight.requires_grad for name, weight in written.named_parameters()} == gradients, form
        x = torch.randn(6, shape[2], *shape[:2], generator=torch.Generator().manual_seed(seed))
        if seed % 2:  # running moments that are not 0 and 1
            if shape[:2] != (1, 1):
                twin(x), written(x)
            twin.eval(), written.eval()
        torch.testing.assert_close(written(x), twin(x), rtol=1e-6, atol=1e-6, msg=lambda m, f=form: f"{f}: {m}")
        done += 1
    assert done >= 50


def test_it_reads_as_a_person_would_write_it() -> None:
    b = Builder()
    x = b.conv(b.input(), 3, 2, trainable=False)
    b.conv(x, 5)  # dead
    y = b.avg_pool(b.avg_pool(b.relu(x), 3, 1, "same"), 2, 2)
    z = b.conv(b.relu(x), 1)
    z = b.add(b.avg_pool(z, 2, 2), y, y)
    b.dense(b.flatten(z), trainable=False)
    text = source(b.build(), (9, 8, 2))
    assert block(text, "__init__") == [
        "super().__init__()",
        "self.conv_1 = nn.Conv2d(2, 5, 3, stride=2, padding=1, bias=False)",
        "self.norm_1 = nn.BatchNorm2d(5)",
        "self.pool_4 = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)",
        "self.pool_5 = nn.AvgPool2d(2, stride=2)",
        "self.conv_7 = nn.Conv2d(5, 5, 1, bias=False)",
        "self.norm_7 = nn.BatchNorm2d(5)",
        "self.pool_8 = nn.AvgPool2d(2, stride=2)",
        "self.dense_11 = nn.Linear(20, 3)",
        "self.reset_parameters()",
        "self.conv_1.requires_grad_(False)",
        "self.dense_11.requires_grad_(False)",
    ]
    assert block(text, "forward") == [
        "x = self.norm_1(self.conv_1(x))",
        "y = torch.relu(x)",
        "y = self.pool_4(y)",
        "y = self.pool_5(y)",
        "x = torch.relu(x)",
        "x = self.norm_7(self.conv_7(x))",
        "x = self.pool_8(x)",
        "x = x + y + y",
        "x = x.flatten(1)",
        "return self.dense_11(x)",
    ]
    assert "# node 5: 5 x 2 x 2" in text and "nas_cntk" not in text and max(map(len, text.splitlines())) <= 120


def test_the_network_is_the_last_class_and_needs_no_arguments() -> None:
    b = Builder()
    b.dense(b.global_avg_pool(b.relu(b.conv(b.input(), 3))))
    found = module(source(b.build(), (4, 4, 1)))
    assert [name for name, value in found.items() if isinstance(value, type)][-1] == "Network"
    net = found["Network"]()
    assert net(torch.zeros(2, 1, 4, 4)).shape == (2, 3)
    # The weights it draws are those of the network that is trained, in distribution.
    big = module(source(b.build(), (4, 4, 1), width=2000))["Network"]()
    assert big.conv_1.weight.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.05)
    assert big.dense_4.weight.std().item() == pytest.approx((1 / 2000) ** 0.5, rel=0.05)
    assert not big.dense_4.bias.any()
    images = torch.rand(2, 4, 4, 1)
    assert torch.equal(found["preprocess"](images), ((images - 0.5) / 0.25).permute(0, 3, 1, 2))


def test_the_example_where_no_file_holds_such_images(capsys: pytest.CaptureFixture[str]) -> None:
    b = Builder()
    b.dense(b.flatten(b.conv(b.input(), 1)))
    text = source(b.build(), (4, 3, 2), trained=False, pixels="pixel values 0 to 16 divided by 16")
    lines = example((4, 3, 2), pixels="pixel values 0 to 16 divided by 16", trained=False, photos=None)
    assert "# Put yours here, floats (n, height, width, channels): pixel values 0 to 16 divided by 16." in lines
    assert textwrap.indent("\n".join(lines), "    ") in text and "safetensors" not in text
    exec("\n".join(line for line in lines if not line.startswith("from model")), module(text))
    assert len(eval(capsys.readouterr().out)) == 2


def test_names_cannot_break_the_text() -> None:
    b = Builder()
    b.dense(b.flatten(b.conv(b.input(), 1)))
    hostile = ['"""', "'); import os", "a\nb", "\\", "\udc80", "é, ñ", "x" * 300]
    text = source(b.build(), (2, 2, 1), classes=hostile, title='"""\n1/0 \\', about='x"""\\', pixels="a\n1/0")
    found = module(text)
    assert found["CLASSES"] == tuple(hostile) and found["Network"]()(torch.zeros(1, 1, 2, 2)).shape == (1, 7)


def test_long_sums_and_deep_networks() -> None:
    b = Builder()
    x = first = b.conv(b.input(), 1)
    for _ in range(60):
        x = b.add(x, b.conv(b.relu(x), 1))
    total = b.add(*[first, x] * 2000)
    b.dense(b.flatten(b.relu(total)))
    arch = b.build()
    text = source(arch, (1, 1, 1), width=2, batch_norm=False)
    written, twin = module(text)["Network"](), standard_network(arch, (1, 1, 1), 3, width=2, batch_norm=False, seed=0)
    # Thousands of equal terms in a row leave rounding beyond 1e-6 to float32; in float64 it shows nothing else.
    written.load_state_dict(twin.state_dict())
    x0 = torch.ones(2, 1, 1, 1, dtype=torch.float64)
    torch.testing.assert_close(written.double()(x0), twin.double()(x0))
    names = set(re.findall(r"^        (\w+) = ", text[text.index("def forward") :], re.M))
    assert names == {"x", "y", "z"}  # few maps are held however deep it is
