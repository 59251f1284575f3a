"""What fits into a time, and that predictions are of the right size."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nas_cntk import Architecture, Builder
from nas_cntk.errors import StudyError
from nas_cntk.validate import forecast
from nas_cntk.validate.forecast import Unit, _of_training, _seconds_a_pair, _two_digits, fit


def bench(limit: float, train: int = 50_000, test: int = 10_000) -> Any:
    dataset = SimpleNamespace(y_train=np.zeros(train), y_test=np.zeros(test), num_classes=10)
    images = SimpleNamespace(dataset=dataset, fewest=lambda: 20)
    return SimpleNamespace(images=images, wishes=SimpleNamespace(max_seconds=limit))


def units(cnn: float, pair: float, count: int = 3) -> list[Unit]:
    """Units that take `cnn` seconds an image and `pair` seconds a pair."""
    none: Any = None
    found = [Unit(none, "cnn", lambda n, m: cnn * n) for _ in range(count)]
    return found + [Unit(none, "kernel", lambda n, m: pair * (n * n / 2 + n * m)) for _ in range(count)]


def total(sizes: Any, some: list[Unit], tests: int) -> float:
    return sum(one.seconds(*sizes.of(one, tests)) for one in some)


def test_all_images_where_the_time_allows() -> None:
    sizes = fit(bench(1e6), units(1e-3, 1e-6), 50_000)
    assert (sizes.cnn, sizes.kernel, sizes.kernel_test, sizes.notes) == (50_000, 50_000, 10_000, ())
    assert fit(bench(1e6), units(1e-3, 1e-6), 700).cnn == 700


@pytest.mark.parametrize("cnn, pair", [(1e-3, 1e-5), (1.0, 1e-9), (1.0, 1e-5), (1e-3, 1e-3)])
def test_what_does_not_fit_is_lowered_and_said(cnn: float, pair: float) -> None:
    some = units(cnn, pair)
    sizes = fit(bench(3600), some, 50_000)
    assert total(sizes, some, 10_000) <= 3600
    assert total(sizes, some, 10_000) > 0.6 * 3600 or sizes.kernel < 2000
    assert len(sizes.notes) == (sizes.cnn < 50_000) + (sizes.kernel < 50_000)
    if sizes.kernel < 50_000:
        assert sizes.kernel_test == min(10_000, max(2000, sizes.kernel))
        assert f"{sizes.kernel_test:,} of 10,000 test images" in sizes.notes[-1] or sizes.kernel_test == 10_000


def test_a_cheap_kind_leaves_its_time_to_the_other() -> None:
    alone = fit(bench(1000), units(1e-9, 1e-6), 50_000)
    shared = fit(bench(1000), units(1.0, 1e-6), 50_000)
    assert alone.kernel > shared.kernel and alone.cnn == 50_000 and shared.cnn < 50_000


def test_what_never_fits_is_an_error() -> None:
    with pytest.raises(StudyError, match="3 full kernels would take .* with 100 training images.*raise --max-seconds"):
        fit(bench(10), units(1e-9, 1.0), 50_000)


def test_round_numbers() -> None:
    assert [_two_digits(n) for n in (7, 42, 123, 4567, 49_999)] == [7, 42, 120, 4500, 49_000]


def test_a_training_costs_its_steps_and_its_evaluations() -> None:
    seconds = _of_training(0.3, 10, 2, 1)
    assert seconds(100, 30) == pytest.approx(2 * 9 * 0.3 + (2 * 10 + 30) * 0.3 / 10 / 3)


@pytest.mark.parametrize("count", [2, 9, 16, 1024])
@pytest.mark.parametrize("each", [1e-7, 2e-4])
def test_a_kernels_time_is_predicted(count: int, each: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that only kernels move: `each` seconds a pair, and five for the first one, which starts things."""
    b = Builder()
    b.dense(b.flatten(b.relu(b.conv(b.input(), 3))))
    arch, calls, now = b.build(), [0], [0.0]

    def kernel(of: Architecture, x1: NDArray[np.float32], x2: NDArray[np.float32], **_: object) -> None:
        assert of is arch and len(x1) and len(x2)
        now[0] += each * len(x1) * len(x2) + (0 if calls[0] else 5)
        calls[0] += 1

    monkeypatch.setattr(forecast, "kernel", kernel)
    monkeypatch.setattr(forecast, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    candidate: Any = SimpleNamespace(architecture=arch)
    dataset = SimpleNamespace(x_train=np.ones((count, 4, 4, 1), dtype=np.float32))
    where: Any = SimpleNamespace(
        images=SimpleNamespace(dataset=dataset), backend="cpu", dtype="float32", kernel_gpus=None
    )
    assert _seconds_a_pair(where, candidate, "ntk") == pytest.approx(each)
