"""The scores by name, and score_architecture against kernels and regressions computed apart."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from nas_cntk import Architecture, Builder, kernel, regression, scoring
from nas_cntk.errors import BackendUnavailable, IllegalArchitecture, KernelError, RegressionError, UsageError

NAMES = (
    "holdout_accuracy",
    "holdout_mse",
    "loo_accuracy",
    "loo_mse",
    "log_marginal_likelihood",
    "alignment",
    "correlation_alignment",
)


def chain(head: str = "flatten", trainable: bool = True) -> Architecture:
    b = Builder()
    x = b.relu(b.conv(b.input(), 3, trainable=trainable))
    x = b.relu(b.conv(x, 3, stride=2, trainable=trainable))
    b.dense(b.global_avg_pool(x) if head == "global" else b.flatten(x), trainable=trainable)
    return b.build()


@pytest.fixture(scope="module")
def split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """30 subset and 20 held-out images of three classes, 5x4 pixels of 2 channels."""
    rng = np.random.default_rng(0)
    y = np.arange(50) % 3
    x = (rng.standard_normal((50, 5, 4, 2)) + rng.standard_normal((3, 5, 4, 2))[y]).astype(np.float32)
    return x[:30], y[:30], x[30:], y[30:]


NETWORK = ("synflow", "naswot", "jacov", "grad_norm", "zico", "short_training", "combined")


def test_every_score_has_its_names_direction_and_kernel() -> None:
    expected = {*NAMES, *(f"nngp_{name}" for name in NAMES), "alignment_gain", "flops", "params", *NETWORK}
    assert set(scoring.SCORES) == expected
    for name, kind in scoring.SCORES.items():
        assert kind.name == name and kind.summary
        assert kind.needs_network == (name in NETWORK)
        without = name in ("flops", "params") or (name in NETWORK and name != "combined")
        one = ("nngp" if name.startswith("nngp_") else "ntk",)
        assert kind.kernels == (() if without else ("ntk", "nngp") if name == "alignment_gain" else one)
        smaller_is_better = name in ("flops", "params") or name.endswith("mse")
        assert kind.direction == ("minimize" if smaller_is_better else "maximize")


def test_scores_are_parsed_in_order() -> None:
    assert [s.name for s in scoring.parse_scores(" loo_mse, flops")] == ["loo_mse", "flops"]
    assert [s.name for s in scoring.parse_scores(["params"])] == ["params"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("holdout_acuracy", "did you mean holdout_accuracy?"),
        ("holdout_accuracy,nngp_aligment", "did you mean nngp_alignment?"),
        ("zzz", "known scores: holdout_accuracy, "),
        ("", "unknown score ''"),
        ("flops,", "unknown score ''"),
        ([], "no score named"),
        ("flops,params,flops", "flops is named twice"),
        ("x" * 1000, "unknown score 'x"),
    ],
)
def test_bad_scores_are_refused_in_one_line(names, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        scoring.parse_scores(names)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("ridge", [0.0, 0.05, "loo"])
def test_both_kernels_give_all_their_scores(split, ridge) -> None:
    x, y, x_holdout, y_holdout = split
    arch = chain("global")
    asked = "nngp_loo_accuracy,holdout_mse"
    result = scoring.score_architecture(arch, *split, score=asked, ridge=ridge, backend="reference", dtype="float64")
    assert list(result.values)[:2] == asked.split(",")
    assert set(result.values) == set(scoring.SCORES) - set(NETWORK)
    for prefix, kind in (("", "ntk"), ("nngp_", "nngp")):
        k = kernel(arch, x, kind=kind, backend="reference", dtype="float64")
        fitted = regression.fit(k, y, 3, ridge)
        k_holdout = kernel(arch, x_holdout, x, kind=kind, backend="reference", dtype="float64")
        holdout = regression.holdout_scores(fitted, k_holdout, y_holdout)
        expected = {
            "holdout_accuracy": holdout.accuracy,
            "holdout_mse": holdout.mse,
            "loo_accuracy": fitted.loo_accuracy,
            "loo_mse": fitted.loo_mse,
            "log_marginal_likelihood": fitted.log_marginal_likelihood,
            "alignment": fitted.alignment,
            "correlation_alignment": fitted.correlation_alignment,
        }
        for name, value in expected.items():
            assert result.values[prefix + name] == pytest.approx(value, rel=1e-9), prefix + name
        if kind == "nngp":  # the kernel of the first score
            assert result.proxy_accuracy == holdout.accuracy
            assert (result.ridge, result.jitter) == (fitted.ridge, fitted.jitter)
            np.testing.assert_array_equal(result.holdout_correct, holdout.correct)
    gain = result.values["correlation_alignment"] - 0.7 * result.values["nngp_correlation_alignment"]
    assert result.values["alignment_gain"] == pytest.approx(gain, rel=1e-12)
    p = result.values["nngp_loo_accuracy"]
    assert result.standard_error == pytest.approx(math.sqrt(p * (1 - p) / 30))
    assert result.values["flops"] == arch.count_flops((5, 4, 2), 3)
    assert result.values["params"] == arch.count_parameters((5, 4, 2), 3)


def test_the_default_score_is_learned_and_recorded(split) -> None:
    from nas_cntk.kernels import cost

    arch = chain()
    result = scoring.score_architecture(arch, *split, backend="reference")
    assert result.key == arch.key
    assert set(result.values) == {*NAMES, "flops", "params"}
    accuracy = result.values["holdout_accuracy"]
    assert accuracy == result.proxy_accuracy == result.holdout_correct.mean() > 0.6  # chance is 1/3
    assert result.standard_error == pytest.approx(math.sqrt(accuracy * (1 - accuracy) / 20))
    assert (result.subset, result.holdout, result.backend) == (30, 20, "reference")
    assert result.entry_layers == cost.entry_layers(arch, (5, 4, 2), 30 * 31 // 2 + 30 * 20) > 0
    assert result.seconds > 0
    plain = result.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert "holdout_correct" not in plain and plain["values"]["holdout_accuracy"] == accuracy


def test_a_score_without_error_bar_has_none(split) -> None:
    result = scoring.score_architecture(chain(), *split, score="loo_mse", backend="reference")
    assert result.standard_error is None and result.proxy_accuracy is not None


def test_graph_scores_compute_no_kernel(split, monkeypatch) -> None:
    monkeypatch.setattr("nas_cntk.kernels.exact.kernel", None)  # calling it would raise
    result = scoring.score_architecture(chain(trainable=False), *split, score="params,flops", num_classes=7)
    assert result.values == {
        "params": chain().count_parameters((5, 4, 2), 7),
        "flops": chain().count_flops((5, 4, 2), 7),
    }
    assert (result.backend, result.entry_layers, result.proxy_accuracy) == ("none", 0, None)
    assert result.holdout_correct is None and result.standard_error is None


def test_progress_rises_to_one_over_both_kernels(split) -> None:
    seen: list[float] = []
    scoring.score_architecture(chain(), *split, backend="reference", progress=seen.append)
    assert seen == sorted(seen) and seen[-1] == pytest.approx(1) and len(seen) >= 2


def test_cancelling_interrupts(split) -> None:
    with pytest.raises(KeyboardInterrupt):
        scoring.score_architecture(chain(), *split, backend="reference", cancelled=lambda: True)


def test_an_image_twice_with_two_labels_is_scored_with_jitter(split) -> None:
    x, y, x_holdout, y_holdout = split
    twice, labels = np.concatenate([x, x[:1]]), np.append(y, (y[0] + 1) % 3)
    result = scoring.score_architecture(chain(), twice, labels, x_holdout, y_holdout, backend="reference")
    assert 0 < result.jitter <= 1e-5 and result.values["holdout_accuracy"] > 0.6


def test_what_cannot_be_scored_is_refused(split) -> None:
    x, y, x_holdout, y_holdout = split
    with pytest.raises(IllegalArchitecture, match="no trainable layer"):
        scoring.score_architecture(chain(trainable=False), *split, backend="reference")
    frozen = scoring.score_architecture(
        chain(trainable=False), *split, score="nngp_holdout_accuracy", backend="reference"
    )
    assert set(frozen.values) == {*(f"nngp_{name}" for name in NAMES), "flops", "params"}
    with pytest.raises(RegressionError, match="must be equal"):
        scoring.score_architecture(chain(), x, y, x_holdout[:, 1:], y_holdout)
    with pytest.raises(RegressionError, match=r"must be \(images, height, width, channels\)"):
        scoring.score_architecture(chain(), x[0], y, x_holdout, y_holdout)
    with pytest.raises(RegressionError, match="29 labels for a kernel of 30"):
        scoring.score_architecture(chain(), x, y[1:], x_holdout, y_holdout, backend="reference")
    with pytest.raises(KernelError, match="NaN"):
        scoring.score_architecture(chain(), x * np.nan, y, x_holdout, y_holdout, backend="reference")
    with pytest.raises((UsageError, BackendUnavailable), match="backend"):
        scoring.score_architecture(chain(), *split, backend="abacus")
