"""`nas-cntk data inspect`: what it prints, its JSON, and that its next command works."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from command_line import Run, runner
from PIL import Image

SPLIT = ("--subset", "12", "--holdout", "10")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    return runner(monkeypatch, capsys)


def photos(root: Path) -> None:
    rng = np.random.default_rng(0)
    for label, name in enumerate(("big cats", "象")):
        (root / name).mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(60 * label, 140 + 60 * label, (9 + i % 3, 12, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    (root / "象" / "broken.png").write_bytes(b"x")


def test_a_folder_from_inspection_to_search(run: Run, tmp_path: Path) -> None:
    photos(tmp_path / "my photos")
    found = run("data", "inspect", "folder:my photos", "--contact-sheet", "sheet.png", "--space", "stages", *SPLIT)
    assert found.code == 0, found.err
    assert "data folder:my photos: 32 training and 8 test images, one fifth set aside; 2 classes" in found.out
    assert "images: 9 x 12 (14), 10 x 12 (14), 11 x 12 (12); used as 9 x 9, colour" in found.out
    assert "problem: 1 image cannot be used" in found.out and "'象/broken.png': no image" in found.out
    assert "big cats        16     4       6         5" in found.out
    assert "split: subset 12, held out 10 (seed 0); 8 test images" in found.out
    assert "> --image-size 9 " in found.out and "  --image-size 8 " in found.out
    assert Path("sheet.png").exists() and "wrote sheet.png" in found.out and not Path("runs").exists()
    words = shlex.split(found.out.splitlines()[-1].removeprefix("next: nas-cntk "))
    assert words[:6] == ["search", "--data", "folder:my photos", "--image-size", "9", "--skip-bad"]
    assert words[6:] == ["--space", "stages", *SPLIT], "what was asked for and is no default"
    assert run(*words, "--trials", "1", "--quiet").code == 0


def test_json_has_everything(run: Run, tmp_path: Path) -> None:
    photos(tmp_path / "photos")
    found = run("data", "inspect", "folder:photos", "--image-size", "6", "--json", *SPLIT).json()
    assert found["image_shape"] == [6, 6, 3] and found["image_size"] == 6 and not found["test_given"]
    assert found["classes"][0] == {"name": "big cats", "train": 16, "test": 4, "subset": 6, "holdout": 5}
    assert found["left_out"] == [{"file": "象/broken.png", "reason": "no image"}]
    assert found["split"]["holdout"] == 10 and found["split"]["subset"] == 12
    assert [one["image_size"] for one in found["cost"]] == [6, 8]
    assert 0 < found["cost"][0]["search_seconds"] < found["cost"][1]["search_seconds"]
    assert sum(size["images"] for size in found["sizes"]) == 40


def test_data_that_no_split_can_be_drawn_from(run: Run) -> None:
    np.savez("d.npz", x=np.random.default_rng(0).random((12, 4, 4)), y=np.array([0] * 9 + [1] * 3))
    found = run("data", "inspect", "npz:d.npz")
    assert found.code == 0 and "problem: class '1' has 2 training images, too few for a split" in found.out
    assert "next:" not in found.out
    assert run("data", "inspect", "npz:d.npz", "--json").json()["split"] is None


def test_many_classes_are_cut_on_screen_alone(run: Run) -> None:
    np.savez("d.npz", x=np.random.default_rng(0).random((300, 4, 4)), y=np.arange(300) % 50)
    found = run("data", "inspect", "npz:d.npz")
    assert found.code == 0 and "26 classes between them are not shown" in found.out
    assert len(run("data", "inspect", "npz:d.npz", "--json").json()["classes"]) == 50


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("folder:none",), "does not exist"),
        (("digit",), "did you mean 'digits'"),
        (("digits", "--image-size", "9"), "at most 8"),
        (("digits", "--contact-sheet", "sheet.jpg"), "ends in .png"),
        (("digits", "--space", "plane"), "did you mean plain"),
    ],
)
def test_errors_are_one_line(run: Run, arguments: tuple[str, ...], says: str) -> None:
    found = run("data", "inspect", *arguments)
    assert found.code == 1 and found.err.count("\n") == 1 and says in found.err and not found.out
