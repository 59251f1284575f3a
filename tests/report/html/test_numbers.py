"""The figures on the page are those of the other commands, and of the data."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from command_line import Run
from hostile_study import CLASSES, STUDY, Reported
from page_reader import Element, section
from PIL import Image

from nas_cntk.report.html.page import winner
from nas_cntk.report.text import clean


def table(element: Element, label: str) -> tuple[list[str], list[dict[str, str | float]]]:
    """Return the heads of a board and its lines: whole figures where there are any, else the text."""
    (found,) = [one for one in element.find("table") if one.attributes.get("aria-label", "").startswith(label)]
    heads = [one.text for one in found.find("thead")[0].find("th")]
    lines = []
    for row in found.find("tbody")[0].find("tr"):
        cells = [one for one in row.children if one.tag in ("td", "th")]
        values = [float(c.find("data")[0].attributes["value"]) if c.find("data") else c.text for c in cells]
        lines.append(dict(zip(heads, values, strict=True)))
    return heads, lines


def test_the_leaderboard_is_that_of_json(validated: Run, reported: Reported) -> None:
    expected = validated("leaderboard", "--db", "nas.db", "--study", STUDY, "--distinct", "--top", "5", "--json").json()
    _, lines = table(section(reported("--top", "5"), "leaderboard"), "The best distinct")
    assert len(lines) == len(expected) == 5
    for line, row in zip(lines, expected, strict=True):
        assert line["trial"] == str(row["trial"])
        assert line["held-out accuracy"] == row["scores"]["holdout_accuracy"]
        assert line["parameters"] == row["params"] and line["FLOPs"] == row["flops"]
        assert line["CNN, test"] == (row["cnn_accuracy"] if row["cnn_recipe"] else "-")
        assert line["full kernel, test"] == (row["full_kernel_accuracy"] or "-")
    everything = validated("leaderboard", "--db", "nas.db", "--study", STUDY, "--json").json()
    _, lines = table(section(reported(), "leaderboard"), "Every trial")
    assert [line["trial"] for line in lines] == [str(row["trial"]) for row in everything]
    seconds = {str(row["trial"]): row["seconds"] for row in everything if row["duplicate_of"] is None}
    assert all(line["time"] == seconds[str(line["trial"])] for line in lines if line["time"] != "-")


def test_ties_are_those_within_the_standard_error(run: Run, reported: Reported) -> None:
    rows = run("leaderboard", "--db", "nas.db", "--study", STUDY, "--json").json()
    best = rows[0]["scores"]["holdout_accuracy"]
    expected = set()
    for row in rows:
        value = row["scores"]["holdout_accuracy"]
        error = max((v * (1 - v) / 60) ** 0.5 for v in (value, best))
        if best - value <= error:
            expected.add(str(row["trial"]))
    assert 1 < len(expected) < len(rows), "this study has ties and others"
    board = section(reported(), "leaderboard").find("details")[0].find("tbody")[0]
    marked = {row.find("th")[0].text for row in board.find("tr") if row.find("span", class_="tie")}
    assert marked == expected
    shown = run("leaderboard", "--db", "nas.db", "--study", STUDY)
    assert f"* within one standard error of the best: {len(expected)} of {len(rows)} trials" in shown.out
    in_text = {m[1] for line in shown.out.splitlines() if (m := re.match(r" *\d+ +(\d+) .* % +[*] ", line))}
    assert in_text == expected


def test_the_front_is_that_of_the_leaderboard(run: Run, reported: Reported) -> None:
    arguments = ("--db", "nas.db", "--study", "several", "--pareto", "--distinct", "--json")
    expected = run("leaderboard", *arguments).json()
    heads, lines = table(section(reported(study="several"), "cost"), "Pareto front of held-out accuracy")
    assert heads == ["trial", "held-out accuracy", "loo mse", "parameters", "FLOPs", "architecture"]
    assert {line["trial"] for line in lines} == {str(row["trial"]) for row in expected}
    values = {str(row["trial"]): row["scores"] for row in expected}
    assert all(line["loo mse"] == values[str(line["trial"])]["loo_mse"] for line in lines)


def test_of_one_score_the_front_is_against_flops(run: Run, reported: Reported) -> None:
    rows = run("leaderboard", "--db", "nas.db", "--study", STUDY, "--distinct", "--json").json()
    points = {str(row["trial"]): (-row["scores"]["holdout_accuracy"], row["flops"]) for row in rows}
    on_it = {
        trial
        for trial, (a, b) in points.items()
        if not any((c <= a and d <= b) and (c, d) != (a, b) for c, d in points.values())
    }
    _, lines = table(section(reported(), "cost"), "Pareto front of held-out accuracy, FLOPs")
    assert {str(line["trial"]) for line in lines} == on_it


def matrix(page: Element) -> tuple[list[str], np.ndarray]:
    (found,) = page.find("table", class_="matrix")
    rows = found.find("tbody")[0].find("tr")
    counts = [[0 if cell.text == "·" else int(cell.text) for cell in row.find("td")[:-1]] for row in rows]
    return [row.find("th")[0].text for row in rows], np.array(counts)


def test_the_confusion_is_that_of_the_validated_network(
    validated: Run, reported: Reported, data: dict[str, np.ndarray]
) -> None:
    recorded = validated("leaderboard", "--db", "nas.db", "--study", STUDY, "--json").json()
    best = max(row["cnn_accuracy"] or 0.0 for row in recorded)
    page = reported()
    names, counts = matrix(page)
    assert counts.sum() == 60 and np.trace(counts) / 60 == pytest.approx(best)
    cleaned = [" ".join(clean(str(name)).split()) for name in data["y_test"]]
    assert [cleaned.count(name) for name in names] == counts.sum(axis=1).tolist()
    assert "test images" in section(page, "mistakes").text and "chosen by its accuracy" in page.text
    assert "Recomputed for this report" not in page.text


def test_the_images_are_those_of_the_data(validated: Run, reported: Reported, data: dict[str, np.ndarray]) -> None:
    page = reported()
    _, counts = matrix(page)
    pictures = page.find("ul", class_="pictures")[0].find("li")
    assert len(pictures) == min(24, 60 - np.trace(counts)) > 0
    stored = {data["x_test"][n].tobytes(): clean(str(data["y_test"][n])) for n in range(60)}
    for picture in pictures:
        (image,) = picture.find("img")
        content = base64.b64decode(image.attributes["src"].removeprefix("data:image/png;base64,"))
        pixels = np.asarray(Image.open(io.BytesIO(content)))
        truth = stored[pixels.tobytes()]
        assert image.attributes["alt"].startswith(f"An image of class {truth}, taken for ")
        assert picture.text.split(" → ")[0].split() == truth.split()
        assert picture.text.split(" → ")[1].split() != truth.split()


def test_without_validation_the_kernel_is_asked_about_the_held_out(run: Run, reported: Reported) -> None:
    from nas_cntk.report.board import load_board

    board = load_board("nas.db", STUDY)
    first = board.rows[0]
    (score,) = [one for one in board.rungs if one.key == first.key]
    assert score.correct is not None
    right = int(np.unpackbits(np.frombuffer(score.correct, np.uint8))[:80].sum())
    page = reported()
    _, counts = matrix(page)
    assert counts.sum() == 80 and np.trace(counts) == right
    assert f"The kernel regression of trial {first.trial} (ntk, 80 training images)" in page.text


def test_the_commands_reproduce_the_study(run: Run, reported: Reported, _searched: Path) -> None:
    import shlex

    block = section(reported("--no-images"), "reproduce").find("code")[0].text
    words = shlex.split(block)
    assert words[:2] == ["nas-cntk", "search"] and words[-1] == STUDY
    given = dict(zip(words[2::2], words[3::2], strict=True))
    # Named without folders: whoever has the data puts theirs in.
    assert given["--data"] == "npz:<img src=x>.npz" and given["--space"] == "space.py"
    given |= {"--data": f"npz:{_searched}/<img src=x>.npz", "--space": str(_searched / "space.py")}
    again = run("search", *(word for pair in given.items() for word in pair), "--db", "again.db", "--quiet")
    assert again.code == 0, again.err
    arguments = ("--study", STUDY, "--columns", "trial,key,proxy_accuracy", "--csv", "-")
    ours, theirs = (run("leaderboard", "--db", db, *arguments).out for db in ("nas.db", "again.db"))
    assert ours == theirs


def test_the_winner_is_the_best_validated(validated: Run) -> None:
    from nas_cntk.report.board import load_board

    board = load_board("nas.db", STUDY)
    won = winner(board)
    assert won is not None and won.network
    assert won.row.cnn_accuracy == max(row.cnn_accuracy or 0.0 for row in board.rows)
    other = winner(load_board("nas.db", "several"))
    assert other is not None and not other.network and other.row.cnn_accuracy is None


def test_classes_are_named_in_order(reported: Reported) -> None:
    names, _ = matrix(reported())
    assert names == [" ".join(clean(name).split()) for name in sorted(CLASSES)]
