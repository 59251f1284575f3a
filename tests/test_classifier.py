"""CNTKClassifier keeps scikit-learn's promises, and ours."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

import nas_cntk
from nas_cntk import Architecture, Builder, CNTKClassifier, regression
from nas_cntk.data import load, standardise
from nas_cntk.errors import NasCntkError, UsageError

SHAPE = (8, 8, 1)


def architecture(kernel: int = 3) -> Architecture:
    b = Builder()
    x = b.relu(b.conv(b.input(), kernel))
    x = b.relu(b.conv(x, kernel))
    b.dense(b.flatten(x))
    return b.build()


def fully_connected() -> Architecture:
    return architecture(1)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    data = standardise(load("digits"))
    return data.x_train[:300], data.y_train[:300], data.x_test[:200], data.y_test[:200]


CHECKS = [
    pytest.param(estimator, check, id=f"{getattr(check, 'func', check).__name__}-{number}")
    for number, (estimator, check) in enumerate(estimator_checks_generator(CNTKClassifier(fully_connected())))
]


@pytest.mark.parametrize("estimator, check", CHECKS)
def test_scikit_learn(estimator: Any, check: Any) -> None:
    # Every check that applies passes on rows of a matrix, images of 1x1; none is expected to fail.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module="sklearn")
        check(estimator)


def test_it_is_the_regression(digits: tuple[np.ndarray, ...]) -> None:
    x, y, x_test, y_test = digits
    clf = CNTKClassifier(architecture(), ridge=1e-3).fit(x, y)
    fitted = regression.fit(nas_cntk.kernel(architecture(), x), y, 10, 1e-3)
    due = regression.predict(fitted, nas_cntk.kernel(architecture(), x_test, x))
    assert np.array_equal(clf.decision_function(x_test), due)
    assert np.array_equal(clf.predict(x_test), due.argmax(axis=1))
    assert clf.score(x_test, y_test) == np.mean(due.argmax(axis=1) == y_test) > 0.9
    assert clf.n_features_in_ == 64 and clf.image_shape_ == SHAPE and clf.fit_.ridge == 1e-3
    # Images may come flattened, before or after.
    for other in (clf, CNTKClassifier(architecture(), ridge=1e-3, image_shape=SHAPE).fit(x.reshape(-1, 64), y)):
        assert np.array_equal(other.decision_function(x_test.reshape(-1, 64)), due)
        assert np.array_equal(other.decision_function(x_test.tolist()), due)


def test_strings_and_two_classes(digits: tuple[np.ndarray, ...]) -> None:
    x, y, x_test, y_test = digits
    names = np.array(["even", "odd"])
    clf = CNTKClassifier(architecture()).fit(x, names[y % 2])
    outputs = clf.decision_function(x_test)
    assert clf.classes_.tolist() == ["even", "odd"] and outputs.shape == (len(x_test),)
    assert np.array_equal(clf.predict(x_test), names[(outputs > 0).astype(int)])
    assert clf.score(x_test, names[y_test % 2]) > 0.9


def test_model_selection_clone_and_pickle(digits: tuple[np.ndarray, ...]) -> None:
    x, y, x_test, _ = digits
    x, y, x_test = x[:90], y[:90] % 3, x_test[:20]
    assert cross_val_score(CNTKClassifier(architecture()), x, y, cv=3).mean() > 0.5
    search = GridSearchCV(CNTKClassifier(architecture()), {"ridge": [0.0, 1e-2, "loo"]}, cv=3).fit(x, y)
    assert search.best_params_["ridge"] in (0.0, 1e-2, "loo")
    pipeline = make_pipeline(StandardScaler(), CNTKClassifier(architecture(), image_shape=SHAPE))
    assert pipeline.fit(x.reshape(-1, 64), y).predict(x_test.reshape(-1, 64)).shape == (20,)
    clf = CNTKClassifier(architecture(), ridge=0.5, dtype="float64")
    copy = clone(clf)
    assert copy.get_params() == clf.get_params() and copy is not clf
    fitted = clf.fit(x, y)
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.decision_function(x_test), fitted.decision_function(x_test))


def test_errors_are_one_line_and_of_both_kinds(digits: tuple[np.ndarray, ...]) -> None:
    x, y, x_test, _ = digits
    clf = CNTKClassifier(architecture())
    for call, message in (
        (lambda: clf.fit(x, np.zeros(len(x))), "all 300 images are of one class, .*0.0.*; a classifier needs two"),
        (lambda: CNTKClassifier(architecture(), image_shape=(8, 8)).fit(x.reshape(-1, 64), y), "columns h w c"),
        (lambda: CNTKClassifier(architecture(), image_shape=(4, 4, 1)).fit(x.reshape(-1, 64), y), "64 columns"),
        (lambda: CNTKClassifier(architecture(), image_shape=(4, 4, 1)).fit(x, y), r"shape \(8, 8, 1\), not \(4, 4"),
        (lambda: clf.fit(x, y).predict(x_test[:, :4]), r"shape \(4, 8, 1\), not \(8, 8, 1\)"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert isinstance(error.value, NasCntkError) and "\n" not in str(error.value)
    with pytest.raises(UsageError, match="arch must be an Architecture, got str"):
        CNTKClassifier("plain").fit(x, y)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="NaN"):
        clf.fit(np.where(x > 1, np.nan, x), y)


def test_it_comes_with_the_package_on_first_use_only() -> None:
    code = (
        "import sys, nas_cntk; assert 'sklearn' not in sys.modules\n"
        "nas_cntk.CNTKClassifier; assert 'sklearn' in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert "CNTKClassifier" in nas_cntk.__all__
