"""The theorems at a small size: slopes, and distances that fall."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from command_line import Run

from nas_cntk.paper import theorem2
from nas_cntk.paper.columns import Size
from nas_cntk.paper.draws import mean
from nas_cntk.paper.rows import Row
from nas_cntk.paper.series import fit_slope, series, together


def points(experiment: str, distances: dict[tuple[int, float | None], float]) -> list[Row]:
    return [
        Row(experiment, "FC", 3, Size(8, 10, 0), "done", details={
            "width": width, "distance": distance, "distance_error": 0.01 * distance,
            **({} if kappa is None else {"kappa": kappa})})
        for (width, kappa), distance in distances.items()
    ]  # fmt: skip


def test_the_slope_of_a_power_is_its_exponent() -> None:
    rows = points("theorem1", {(width, None): 3 * width**-0.5 for width in (16, 64, 256)})
    found = fit_slope(rows)
    assert found is not None and found[0] == pytest.approx(-0.5) and 0 < found[1] < 0.01
    assert fit_slope(rows[:1]) is None


def test_curves_of_kappa_and_the_way_through_them() -> None:
    grid = {(width, kappa): kappa + 1 / width for kappa in (1.0, 0.1) for width in (10, 100)}
    rows = points("theorem2", grid)
    assert [curve.title for curve in series(rows)] == [
        f"FC, depth 3, kappa {kappa}: 10 images of 8x8" for kappa in ("1", "0.1")
    ]
    assert "1.1000 ± 0.0110 (10, 1), 0.1100 ± 0.0011 (100, 0.1)" in together(rows)


def test_the_mean_and_its_error() -> None:
    value, error = mean([1.0, 2.0, 3.0, 4.0])
    assert value == 2.5 and error == pytest.approx(np.std([1, 2, 3, 4], ddof=1) / 2)


def test_theorem_1_at_a_small_size(run: Run) -> None:
    arguments = ("theorem1", "--columns", "FC", "--widths", "32,128,512", "--seeds", "40", "--train", "5")
    rows = run("paper", *arguments, "--no-plot", "--json").json()
    widths = [row["details"]["width"] for row in rows]
    distances = np.array([row["details"]["distance"] for row in rows])
    assert widths == [32, 128, 512] and all(row["accuracy"] is None and row["state"] == "done" for row in rows)
    slope = np.polyfit(np.log(widths), np.log(distances), 1)[0]
    assert -0.62 < slope < -0.38
    text = run("paper", *arguments, "--no-plot")
    assert text.code == 0 and "theory: -1/2" in text.out and "nothing to compute" in text.out


def test_theorem_2_at_a_small_size(run: Run) -> None:
    arguments = ("--widths", "32,128,512", "--kappas", "0.3,0.1", "--seeds", "3", "--train", "6", "--no-plot")
    found: Any = run("paper", "theorem2", *arguments, "--json").json()
    cell = {(row["details"]["kappa"], row["details"]["width"]): row["details"] for row in found}
    assert all(details["residual"] <= theorem2.TOLERANCE for details in cell.values()), "the loss is near zero"
    for kappa in (0.3, 0.1):
        for narrow, wide in ((32, 128), (128, 512)):
            before, after = cell[kappa, narrow], cell[kappa, wide]
            allowed = 2 * np.hypot(before["distance_error"], after["distance_error"])
            assert after["distance"] < before["distance"] + allowed
    assert cell[0.1, 512]["distance"] < 0.7 * cell[0.3, 32]["distance"]
