"""Every closed form against its definition, computed the long way."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nas_cntk import regression
from nas_cntk.errors import RegressionError

Float = NDArray[np.float64]
N, M, CLASSES = 40, 25, 3


def rbf(a: Float, b: Float) -> Float:
    return np.asarray(np.exp(-((a[:, None] - b[None]) ** 2).sum(-1) / 8))


@pytest.fixture(scope="module")
def problem() -> tuple[Float, Float, NDArray[np.int64], NDArray[np.int64]]:
    """A kernel of the subset, one of held-out images by subset, and both sets of labels; classes overlap."""
    rng = np.random.default_rng(0)
    y = np.arange(N + M) % CLASSES
    points = rng.standard_normal((N + M, 4)) + 2 * np.eye(CLASSES, 4)[y]
    return 3 * rbf(points[:N], points[:N]), 3 * rbf(points[N:], points[:N]), y[:N], y[N:]


def test_targets_are_one_hot_minus_one_over_classes() -> None:
    np.testing.assert_allclose(regression.targets(np.array([1, 0]), 2), [[-0.5, 0.5], [0.5, -0.5]])
    ten = regression.targets(np.array([3]), 10)[0]
    assert ten[3] == pytest.approx(0.9) and ten[0] == pytest.approx(-0.1)


@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_predictions_are_those_of_kernel_ridge_regression(problem, ridge: float) -> None:
    from sklearn.kernel_ridge import KernelRidge

    k, k_holdout, y, y_holdout = problem
    fitted = regression.fit(k, y, CLASSES, ridge)
    assert (fitted.jitter, fitted.ridge, fitted.mean_diagonal) == (0.0, ridge, pytest.approx(3.0))
    ours = regression.predict(fitted, k_holdout)
    theirs = KernelRidge(alpha=ridge * 3.0, kernel="precomputed").fit(k, regression.targets(y, CLASSES))
    np.testing.assert_allclose(ours, theirs.predict(k_holdout), rtol=1e-6, atol=1e-8)

    scores = regression.holdout_scores(fitted, k_holdout, y_holdout)
    correct = ours.argmax(axis=1) == y_holdout
    np.testing.assert_array_equal(scores.correct, correct)
    assert scores.accuracy == correct.mean() and 0.4 < scores.accuracy < 1
    assert scores.mse == pytest.approx(np.mean((ours - regression.targets(y_holdout, CLASSES)) ** 2))
    assert scores.standard_error == pytest.approx(math.sqrt(scores.accuracy * (1 - scores.accuracy) / M))


@pytest.mark.parametrize("ridge", [0.0, 0.03])
def test_leave_one_out_is_refitting_without_each_image(problem, ridge: float) -> None:
    k, _, y, _ = problem
    y_targets = regression.targets(y, CLASSES)
    solved = k + ridge * np.diagonal(k).mean() * np.eye(N)
    predictions = np.empty_like(y_targets)
    for i in range(N):
        rest = np.delete(np.arange(N), i)
        predictions[i] = k[i, rest] @ np.linalg.solve(solved[np.ix_(rest, rest)], y_targets[rest])
    fitted = regression.fit(k, y, CLASSES, ridge)
    assert fitted.loo_mse == pytest.approx(np.mean((predictions - y_targets) ** 2), rel=1e-8)
    assert fitted.loo_accuracy == (predictions.argmax(axis=1) == y).mean()
    assert 0.3 < fitted.loo_accuracy < 1


def test_log_marginal_likelihood_is_that_of_the_best_scale(problem) -> None:
    from scipy.optimize import minimize_scalar
    from scipy.stats import multivariate_normal

    k, _, y, _ = problem
    y_targets = regression.targets(y, CLASSES)

    def negative(log_scale: float) -> float:
        gaussian = multivariate_normal(np.zeros(N), math.exp(log_scale) * k)
        return -float(gaussian.logpdf(y_targets.T).sum())

    best = -minimize_scalar(negative, bracket=(-2.0, 0.0)).fun / CLASSES
    ours = regression.fit(k, y, CLASSES).log_marginal_likelihood
    assert ours - N / 2 * (1 + math.log(2 * math.pi)) == pytest.approx(best, rel=1e-8)


def test_the_kernels_scale_changes_no_score(problem) -> None:
    k, k_holdout, y, y_holdout = problem
    for ridge in (0.0, 0.01, "loo"):
        small, large = regression.fit(k, y, CLASSES, ridge), regression.fit(1000 * k, y, CLASSES, ridge)
        for name in ("ridge", "jitter", "loo_accuracy", "loo_mse", "log_marginal_likelihood", "alignment"):
            assert getattr(small, name) == pytest.approx(getattr(large, name), rel=1e-7), name
        a = regression.predict(small, k_holdout)
        np.testing.assert_allclose(a, regression.predict(large, 1000 * k_holdout), rtol=1e-6, atol=1e-9)


def test_alignment_is_the_cosine_of_the_centred_matrices(problem) -> None:
    k, _, y, _ = problem
    y_targets = regression.targets(y, CLASSES)
    h = np.eye(N) - 1 / N
    a, b = h @ k @ h, h @ y_targets @ y_targets.T @ h
    expected = np.sum(a * b) / np.linalg.norm(a) / np.linalg.norm(b)
    assert regression.fit(k, y, CLASSES).alignment == pytest.approx(expected, rel=1e-10)
    assert regression.alignment(y_targets @ y_targets.T, y_targets) == pytest.approx(1)
    assert regression.alignment(np.ones((N, N)), y_targets) == 0
    assert regression.alignment(np.full((N, N), 0.1, np.float32), y_targets) == 0


def unbiased_hsic(k: Any, labels: Any) -> float:
    """Equation 5 of Song et al. (2012), term by term."""
    n = len(k)
    a, b, one = k - np.diag(np.diag(k)), labels - np.diag(np.diag(labels)), np.ones(len(k))
    terms = (
        np.trace(a @ b) + (one @ a @ one) * (one @ b @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ a @ b @ one)
    )
    return float(terms / (n * (n - 3)))


def test_correlation_alignment_is_that_of_the_unbiased_estimates(problem) -> None:
    k, _, y, _ = problem
    y_targets = regression.targets(y, CLASSES)
    scale = np.sqrt(np.diag(k))
    c, labels = k / np.outer(scale, scale), y_targets @ y_targets.T
    expected = unbiased_hsic(c, labels) / np.sqrt(unbiased_hsic(c, c) * unbiased_hsic(labels, labels))
    assert regression.fit(k, y, CLASSES).correlation_alignment == pytest.approx(expected, rel=1e-9)
    weights = np.random.default_rng(1).uniform(0.1, 10, N)
    assert regression.correlation_alignment(k * np.outer(weights, weights), y_targets) == pytest.approx(expected)
    assert regression.correlation_alignment(labels, y_targets) == pytest.approx(1)
    assert regression.correlation_alignment(np.ones((N, N)), y_targets) == 0
    assert regression.correlation_alignment(np.full((N, N), 0.1, np.float32), y_targets) == 0
    assert regression.correlation_alignment(np.eye(3), y_targets[:3]) == 0


def test_labels_at_random_are_not_aligned_on_average(problem) -> None:
    k, _, y, _ = problem
    rng = np.random.default_rng(2)
    found = [regression.correlation_alignment(k, regression.targets(rng.permutation(y), CLASSES)) for _ in range(400)]
    biased = [regression.alignment(k, regression.targets(rng.permutation(y), CLASSES)) for _ in range(400)]
    assert abs(np.mean(found)) < 4 * np.std(found) / 20 < np.mean(biased), "the diagonal aligns with any labels"


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_duplicate_image_is_solved_with_the_least_jitter_that_helps(problem, dtype) -> None:
    k, k_holdout, y, y_holdout = problem
    twice = np.append(np.arange(N), 0)
    again = k[np.ix_(twice, twice)].astype(dtype)
    labels = np.append(y, (y[0] + 1) % CLASSES)  # the same image with another label
    fitted = regression.fit(again, labels, CLASSES)
    assert fitted.jitter == {np.float64: 1e-9, np.float32: 1e-6}[dtype]
    # In the limit of no jitter, one image with two labels is one image with their mean.
    mean = regression.targets(y, CLASSES)
    mean[0] = regression.targets(labels[[0, -1]], CLASSES).mean(axis=0)
    expected = k_holdout @ np.linalg.solve(k, mean)
    ours = regression.predict(fitted, k_holdout[:, twice].astype(dtype))
    np.testing.assert_allclose(ours, expected, atol={np.float64: 1e-5, np.float32: 1e-2}[dtype])
    assert np.isfinite([fitted.loo_mse, fitted.log_marginal_likelihood]).all()
    # A ridge does the same work: nothing is added to it.
    assert regression.fit(again, labels, CLASSES, 0.01).jitter == 0


def test_a_constant_kernel_predicts_nothing_and_says_so_by_its_scores() -> None:
    y = np.arange(20) % 4
    fitted = regression.fit(np.ones((20, 20)), y, 4)
    assert fitted.jitter > 0 and fitted.alignment == 0
    scores = regression.holdout_scores(fitted, np.ones((8, 20)), np.arange(8) % 4)
    assert scores.accuracy == 0.25
    assert scores.mse == pytest.approx(0.25 * 0.75, rel=1e-6)


def test_ridge_by_leave_one_out_is_the_best_of_the_grid(problem) -> None:
    k, _, y, _ = problem
    rng = np.random.default_rng(1)
    noisy = np.where(rng.random(N) < 0.3, (y + 1) % CLASSES, y)
    errors = {r: regression.fit(k, noisy, CLASSES, r).loo_mse for r in regression.RIDGE_GRID}
    chosen = regression.fit(k, noisy, CLASSES, "loo")
    assert chosen.ridge == min(errors, key=errors.__getitem__) > 0
    assert chosen.loo_mse == errors[chosen.ridge]


def test_a_class_missing_from_the_subset_is_still_a_class(problem) -> None:
    k, k_holdout, y, _ = problem
    assert regression.predict(regression.fit(k, y, CLASSES + 2), k_holdout).shape == (M, CLASSES + 2)


def broken(k: Float, how: str) -> Float:
    k = k.copy()
    if how == "nan":
        k[3, 1] = np.nan
    elif how == "indefinite":
        k -= 2 * np.diag(np.diagonal(k)) * (np.arange(N) % 2)
    elif how == "asymmetric":
        k[0, 1] += 1
    elif how == "zero":
        k[:] = 0
    return k


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("nan", "the kernel is nan at images 3 and 1"),
        ("indefinite", "mean diagonal is"),
        ("asymmetric", "not symmetric"),
        ("zero", "black"),
    ],
)
def test_a_broken_kernel_is_refused_in_one_line(problem, how: str, message: str) -> None:
    k, _, y, _ = problem
    with pytest.raises(RegressionError, match=message) as caught:
        regression.fit(broken(k, how), y, CLASSES)
    assert "\n" not in str(caught.value)


def test_an_indefinite_kernel_is_refused(problem) -> None:
    k, _, y, _ = problem
    with pytest.raises(RegressionError, match="not positive definite"):
        regression.fit(k - 0.5 * np.eye(N) * k.max(), y, CLASSES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y": np.zeros(N, int)}, "of class 0"),
        ({"y": np.zeros(N)}, "vector of integers"),
        ({"y": np.arange(N - 1) % CLASSES}, "39 labels for a kernel of 40"),
        ({"num_classes": 2}, "labels from 0 to 2 with 2 classes"),
        ({"num_classes": 1}, "two or more"),
        ({"ridge": -0.1}, "ridge of -0.1"),
        ({"ridge": math.nan}, "ridge of nan"),
        ({"ridge": "best"}, 'or "loo"'),
        ({"kernel": np.ones((N, N - 1))}, "must be square"),
        ({"kernel": np.ones((0, 0))}, "must be square"),
    ],
)
def test_bad_arguments_are_refused(problem, arguments, message: str) -> None:
    k, _, y, _ = problem
    with pytest.raises(RegressionError, match=message):
        regression.fit(**({"kernel": k, "y": y, "num_classes": CLASSES, "ridge": 0.0} | arguments))


def test_held_out_arguments_are_checked(problem) -> None:
    k, k_holdout, y, y_holdout = problem
    fitted = regression.fit(k, y, CLASSES)
    with pytest.raises(RegressionError, match=r"must be \(images, 40\)"):
        regression.predict(fitted, k_holdout[:, 1:])
    with pytest.raises(RegressionError, match="not finite"):
        regression.predict(fitted, k_holdout * np.inf)
    with pytest.raises(RegressionError, match="24 held-out labels for 25"):
        regression.holdout_scores(fitted, k_holdout, y_holdout[1:])
