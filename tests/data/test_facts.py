"""Data looked over: a messy folder, twins, balance, few and many classes; and its contact sheet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from messy_folder import BAD, CLASSES, COUNTS, write_messy_folder
from PIL import Image

from nas_cntk import data
from nas_cntk.data.contact_sheet import contact_sheet, require_png, write_contact_sheet
from nas_cntk.data.facts import facts
from nas_cntk.errors import DataError


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_messy_folder(tmp_path_factory.mktemp("data") / "messy")


def npz(path: Path, x: np.ndarray, y: np.ndarray, **more: np.ndarray) -> str:
    np.savez(path, x=x, y=y, **more)
    return f"npz:{path}"


def test_a_search_refuses_the_messy_folder_step_by_step(messy: Path) -> None:
    spec = f"folder:{messy}"
    with pytest.raises(DataError, match="5 sizes, from 32 x 32 to 150 x 200: .*--image-size 16 --skip-bad, .* 2 that"):
        data.load(spec)
    with pytest.raises(DataError, match="3 of 111 images cannot be used .*big cats/empty.jpg: empty file.*--skip-bad"):
        data.load(spec, image_size=16)
    loaded = data.load(spec, image_size=16, skip_bad=True)
    assert loaded.image_shape == (16, 16, 3) and len(loaded.x_train) + len(loaded.x_test) == 108
    assert loaded.classes == tuple(sorted(CLASSES))


def test_the_messy_folder_looked_over(messy: Path) -> None:
    found = facts(f"folder:{messy}", None)
    assert found.image_size == 16 and found.options == ["--image-size", "16", "--skip-bad"]
    assert {name for name, _ in found.left_out} == set(BAD)
    assert dict(found.left_out)[BAD[1]] == "empty file" and dict(found.left_out)[BAD[2]] == "no image"
    assert sum(count for _, count in found.sizes) == 109, "the file that is cut off has a whole header"
    assert dict(found.sizes)[(27, 48)] == 21, "height and width as looked at"
    said = "\n".join((*found.problems, *found.remarks))
    for words in (
        "images of 5 sizes: a search needs --image-size, here 16",
        "3 images cannot be used",
        "images are turned as EXIF says",
        "images are animated: the first frame is read",
        "images are partly transparent: laid on black",
        "images are stored in gray",
        "images are no square: squeezed to 16 x 16, not cropped",
        "class folder without images left out: 'no images yet'",
        "1 file that is no image left out ('big cats/notes.txt')",
        "there already",
        "1 image is in several classes at once (one of them in 'big cats', 'Äpfel & Birnen')",
    ):
        assert words in said, words
    assert not any(hidden in said for hidden in (".DS_Store", "thumbnails", "._000"))


def test_turned_images_look_like_their_neighbours(messy: Path) -> None:
    loaded = data.load(f"folder:{messy}", image_size=16, skip_bad=True)
    colourful = loaded.x_train[loaded.x_train.std(axis=3).mean(axis=(1, 2)) > 0.05]
    opaque = colourful[colourful[:, :2].mean(axis=(1, 2, 3)) > 0.2]  # those with an alpha ramp are black above
    assert len(opaque) > 40
    assert (opaque[:, :, 12:].mean(axis=(1, 2, 3)) > opaque[:, :, :4].mean(axis=(1, 2, 3))).all(), (
        "brighter on the right"
    )


def test_images_that_are_there_twice(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (40, 6, 6)).astype(np.uint8)
    y = np.arange(40) % 2
    x[2] = x[0]  # in one class
    x[3] = x[1]  # in one class
    x[5] = x[4]  # in both
    x[6] = 77
    x_test = np.concatenate([x[:3], x[10:12] // 2])
    found = facts(npz(tmp_path / "d.npz", x, y, x_test=x_test, y_test=np.array([0, 1, 0, 0, 1])), None)
    said = "\n".join(found.remarks)
    assert "3 training images are there already" in said
    assert "1 image is in several classes at once (one of them in '0', '1')" in said
    assert "3 test images are also among the training images" in said and "1 image is of one colour throughout" in said
    assert found.test_given and not found.problems and found.sizes == (((6, 6), 45),)
    clean = facts("digits", None)
    assert not any("already" in remark or "also among" in remark for remark in clean.remarks)


def test_unbalanced_classes_are_told(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((110, 4, 4))
    found = facts(npz(tmp_path / "d.npz", x, np.array(["rare"] * 10 + ["common"] * 100)), None)
    assert any("unbalanced: 80 training images of 'common', 8 of 'rare'" in r and "91%" in r for r in found.remarks)


def test_thirty_images_of_two_classes_can_be_searched(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((30, 5, 5))
    loaded = data.load(npz(tmp_path / "d.npz", x, np.arange(30) % 2))
    split = data.split(loaded, 2000, 2000, seed=0)
    assert (len(loaded.y_test), len(split.y), len(split.y_holdout)) == (6, 12, 12)


def test_two_hundred_classes(tmp_path: Path) -> None:
    root = tmp_path / "many"
    rng = np.random.default_rng(0)
    for label in range(200):
        (root / f"class {label:03d}").mkdir(parents=True)
        for i in range(6):
            pixels = rng.integers(0, 256, (4, 6)).astype(np.uint8)
            Image.fromarray(pixels).save(root / f"class {label:03d}" / f"{i}.bmp")
    found = facts(f"folder:{root}", None)
    assert found.dataset.num_classes == 200 and not found.problems
    split = data.split(found.dataset, 2000, 2000, seed=0)
    assert np.bincount(split.y).min() >= 2 and np.bincount(split.y_holdout).min() >= 2
    with pytest.raises(DataError, match="--subset 399 is too small: 200 classes need at least 400"):
        data.split(found.dataset, 399, 2000, seed=0)
    sheet = contact_sheet(found.dataset)
    assert sheet.width < 4000 and sheet.height < 4000, "several columns of classes"


def test_the_contact_sheet_shows_what_kernels_see(messy: Path, tmp_path: Path) -> None:
    loaded = data.load(f"folder:{messy}", image_size=16, skip_bad=True)
    size = write_contact_sheet(loaded, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as opened:
        pixels = np.asarray(opened.convert("RGB")).astype(float)
        assert opened.size == size
    rows = pixels.shape[0] // len(CLASSES)
    for label, name in enumerate(loaded.classes):
        row = pixels[label * rows + 6 : label * rows + rows - 6, 160:]
        inside = row[(row < 250).any(axis=2)]
        colour = np.array((0, 1, 2))[inside.mean(axis=0).argsort()]
        expected = {"big cats": 0, "Äpfel & Birnen": 1, "象": 2}
        if name in expected:
            assert colour[-1] == expected[name], name
    names = pixels[:, :150]
    assert all((names[label * rows : (label + 1) * rows] < 100).any() for label in range(len(CLASSES)))
    assert COUNTS[0] > 10, "more images than a row of the sheet has room for"


def test_a_sheet_of_odd_values_and_channels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for channels in (1, 2, 3, 5):
        x = rng.normal(0, 100, (20, 3, 7, channels))
        loaded = data.load(npz(tmp_path / f"{channels}.npz", x, np.array(["a\nb", "c"] * 10)))
        assert contact_sheet(loaded).getbbox() is not None


def test_sheets_that_cannot_be_written(tmp_path: Path) -> None:
    for name in ("sheet.jpg", "none/sheet.png", "."):
        with pytest.raises(DataError, match="--contact-sheet"):
            require_png(str(tmp_path / name) if name != "." else ".png/")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DataError, match="cannot be written"):
        require_png(str(tmp_path / "folder.png"))
