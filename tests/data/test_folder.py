"""Folders of images: layouts, sizes, channels, rotation, depth, broken files, links."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas_cntk import data
from nas_cntk.data import folder as folder_reader
from nas_cntk.data.sources import Source
from nas_cntk.errors import DataError

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (12, 6, 8)).astype(np.uint8)
COLOUR = RNG.integers(0, 256, (12, 6, 8, 3)).astype(np.uint8)


def fill(root: Path, images: np.ndarray, names: tuple[str, ...] = ("a", "b"), suffix: str = ".png") -> Path:
    """Half of the images in each of two class folders."""
    for i, image in enumerate(images):
        path = root / names[i * len(names) // len(images)] / f"{i:03d}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return root


def read(root: Path, size: int | None = None, skip_bad: bool = False) -> np.ndarray:
    """All images as they are read, in [0, 1], before anything is set aside."""
    raw = folder_reader.read(Source(root, size, skip_bad=skip_bad))
    assert raw.x_test is None
    return raw.x / raw.divisor


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".gif", ".webp", ".PNG"])
def test_lossless_formats(suffix: str, tmp_path: Path) -> None:
    if suffix == ".webp":
        for i, image in enumerate(COLOUR):
            (tmp_path / "ab"[i // 6]).mkdir(exist_ok=True)
            Image.fromarray(image).save(tmp_path / "ab"[i // 6] / f"{i:03d}.webp", lossless=True)
        np.testing.assert_allclose(read(tmp_path), COLOUR / 255, atol=1e-12)
    else:
        np.testing.assert_allclose(read(fill(tmp_path, GRAY, suffix=suffix))[..., 0], GRAY / 255, atol=1e-12)


def test_jpeg(tmp_path: Path) -> None:
    smooth = np.tile(np.linspace(0, 255, 16).astype(np.uint8), (12, 16, 1))
    x = read(fill(tmp_path, smooth, suffix=".jpeg"))
    assert x.shape == (12, 16, 16, 1)
    np.testing.assert_allclose(x[..., 0], smooth / 255, atol=0.06)


def test_train_and_test_layout(tmp_path: Path) -> None:
    fill(tmp_path / "train", GRAY[:8])
    fill(tmp_path / "test", GRAY[8:])
    loaded = data.load(f"folder:{tmp_path}")
    np.testing.assert_array_equal(loaded.x_train[..., 0], GRAY[:8].astype(np.float32) / 255)
    np.testing.assert_array_equal(loaded.x_test[..., 0], GRAY[8:].astype(np.float32) / 255)
    assert loaded.y_train.tolist() == [0] * 4 + [1] * 4 and loaded.y_test.tolist() == [0, 0, 1, 1]
    assert loaded.name == tmp_path.name and loaded.classes == ("a", "b")


def test_train_alone_and_validation_are_told(tmp_path: Path) -> None:
    fill(tmp_path / "train", GRAY)
    fill(tmp_path / "val", GRAY)
    loaded = data.load(f"folder:{tmp_path}")
    assert len(loaded.x_train) + len(loaded.x_test) == 12
    assert any("'val'" in note for note in loaded.notes)


def test_classes_may_be_called_train_and_test(tmp_path: Path) -> None:
    loaded = data.load(f"folder:{fill(tmp_path, GRAY, ('train', 'test'))}")
    assert loaded.classes == ("test", "train")


def test_names_hidden_and_foreign_files(tmp_path: Path) -> None:
    names = ("big cat \n x", "éléphant 象")
    fill(tmp_path, GRAY, names)
    fill(tmp_path / ".hidden", GRAY)
    (tmp_path / names[0] / ".DS_Store").write_bytes(b"x")
    (tmp_path / names[0] / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "empty class").mkdir()
    (tmp_path / "README.md").write_text("x")
    (tmp_path / names[1] / "more").mkdir()
    Image.fromarray(GRAY[0]).save(tmp_path / names[1] / "more" / "x.png")
    loaded = data.load(f"folder:{tmp_path}")
    assert loaded.classes == tuple(unicodedata.normalize("NFC", name) for name in names)
    assert len(loaded.x_train) + len(loaded.x_test) == 13
    assert any("'empty class'" in note for note in loaded.notes)
    assert any("1 file that is no image left out" in note and "Thumbs.db" in note for note in loaded.notes)
    assert not any("\n" in note for note in loaded.notes)


def test_two_spellings_of_an_accent_are_one_class(tmp_path: Path) -> None:
    fill(tmp_path / "train", GRAY[:8], (unicodedata.normalize("NFC", "é"), "b"))
    fill(tmp_path / "test", GRAY[8:], (unicodedata.normalize("NFD", "é"), "b"))
    assert data.load(f"folder:{tmp_path}").classes == ("b", "é")


def test_one_size_stays(tmp_path: Path) -> None:
    big = RNG.integers(0, 256, (8, 40, 50)).astype(np.uint8)
    assert read(fill(tmp_path, big)).shape == (8, 40, 50, 1)


def several_sizes(root: Path, *sizes: tuple[int, int]) -> list[np.ndarray]:
    """Gray images of these sizes, half of them in each of two classes."""
    images = [RNG.integers(0, 256, size).astype(np.uint8) for size in sizes]
    for i, image in enumerate(images):
        (root / "ab"[2 * i // len(images)]).mkdir(exist_ok=True)
        Image.fromarray(image).save(root / "ab"[2 * i // len(images)] / f"{i}.png")
    return images


def test_several_sizes_need_an_image_size_which_the_error_names(tmp_path: Path) -> None:
    several_sizes(tmp_path, *[(12, 20), (30, 13), (14, 14)] * 8)
    with pytest.raises(DataError, match="of 3 sizes, from 14 x 14 to 30 x 13: .*for example with --image-size 12$"):
        data.load(f"folder:{tmp_path}")
    assert data.load(f"folder:{tmp_path}", image_size=12).image_shape == (12, 12, 1)
    Image.fromarray(GRAY[0][:3]).save(tmp_path / "a" / "icon.png")
    with pytest.raises(DataError, match="--image-size 12 --skip-bad, which leaves out 1 that are smaller or cannot be"):
        data.load(f"folder:{tmp_path}")
    assert data.load(f"folder:{tmp_path}", image_size=12, skip_bad=True).image_shape == (12, 12, 1)


def test_large_images_of_several_sizes_are_averaged_by_area(tmp_path: Path) -> None:
    images = several_sizes(tmp_path, (64, 96), (96, 64), (64, 64), (32, 320))
    with pytest.raises(DataError, match="for example with --image-size 16$"):
        read(tmp_path)
    x = read(tmp_path, 32)
    assert x.shape == (4, 32, 32, 1)
    np.testing.assert_allclose(x[0, ..., 0], images[0].reshape(32, 2, 32, 3).mean((1, 3)) / 255, rtol=1e-5)
    np.testing.assert_allclose(x[3, ..., 0], images[3].reshape(32, 1, 32, 10).mean((1, 3)) / 255, rtol=1e-5)


@pytest.mark.parametrize("mixed", [False, True])
def test_image_size(mixed: bool, tmp_path: Path) -> None:
    fill(tmp_path, GRAY)
    if mixed:
        Image.fromarray(GRAY[0].repeat(2, axis=0)).save(tmp_path / "a" / "zzz.png")
    loaded = data.load(f"folder:{tmp_path}", image_size=2)
    every = np.concatenate([loaded.x_train, loaded.x_test])
    assert loaded.image_shape == (2, 2, 1) and len(every) == 12 + mixed
    expected = GRAY.reshape(12, 2, 3, 2, 4).mean((2, 4)) / 255
    for image in expected:
        assert np.abs(every[..., 0] - image).max(axis=(1, 2)).min() < 1e-6


def test_resizing_one_by_one_equals_resizing_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, COLOUR)
    whole = data.load(f"folder:{tmp_path}", image_size=4)
    monkeypatch.setattr(folder_reader, "MAX_BYTES", 100)
    single = data.load(f"folder:{tmp_path}", image_size=4)
    np.testing.assert_allclose(single.x_train, whole.x_train, atol=1e-7)


def test_channels_are_made_equal(tmp_path: Path) -> None:
    fill(tmp_path, GRAY)
    Image.fromarray(COLOUR[0]).save(tmp_path / "b" / "zz.png")
    x = read(tmp_path)
    assert x.shape == (13, 6, 8, 3)
    np.testing.assert_allclose(x[0], np.repeat(GRAY[0][..., None], 3, axis=2) / 255)
    np.testing.assert_allclose(x[12], COLOUR[0] / 255)


def modes() -> dict[str, tuple[Image.Image, np.ndarray]]:
    """Images in every mode, with the pixels (6, 8, c) in [0, 1] that they should become."""
    gray, colour = GRAY[0], COLOUR[0]
    alpha = RNG.integers(0, 256, (6, 8, 1)).astype(np.uint8)
    deep = RNG.integers(0, 65536, (6, 8)).astype(np.uint16)
    few = (colour // 128 * 255).astype(np.uint8)
    on_black = colour * (alpha / 255)
    palette = Image.fromarray(few).quantize(8)
    clear = Image.fromarray(few).quantize(8)
    clear.info["transparency"] = 0
    hidden = (np.asarray(clear) == 0)[..., None]
    return {
        "L": (Image.fromarray(gray), gray[..., None] / 255),
        "1": (Image.fromarray(gray > 99), (gray > 99)[..., None] * 1.0),
        "LA": (
            Image.merge("LA", [Image.fromarray(gray), Image.fromarray(alpha[..., 0])]),
            gray[..., None] * (alpha / 255) / 255,
        ),
        "RGB": (Image.fromarray(colour), colour / 255),
        "RGB but gray": (Image.fromarray(gray).convert("RGB"), gray[..., None] / 255),
        "RGBA": (Image.fromarray(np.concatenate([colour, alpha], axis=2)), on_black / 255),
        "P": (palette, few / 255),
        "P with transparency": (clear, few * ~hidden / 255),
        "16-bit": (Image.fromarray(deep), deep[..., None] / 65535),
    }


@pytest.mark.parametrize("mode", list(modes()))
def test_modes(mode: str, tmp_path: Path) -> None:
    image, expected = modes()[mode]
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(2):
            image.save(tmp_path / name / f"{i}.png")
    x = read(tmp_path)
    assert x.shape == (4, *expected.shape)
    # 8-bit transparency is rounded to the nearest byte.
    np.testing.assert_allclose(x[3], expected, atol=0.51 / 255 if "A" in mode else 1e-12)


def test_16_and_8_bits_together(tmp_path: Path) -> None:
    fill(tmp_path, GRAY)
    Image.fromarray(GRAY[0].astype(np.uint16) * 257).save(tmp_path / "b" / "zz.png")
    x = read(tmp_path)
    np.testing.assert_allclose(x[:12, ..., 0], GRAY / 255, atol=1e-12)
    np.testing.assert_allclose(x[12], x[0], atol=1e-12)


def test_cmyk_jpeg_and_animated_gif(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.new("CMYK", (8, 6), (255, 0, 0, 0)).save(tmp_path / name / "0.jpg")
        frames = [Image.fromarray(image) for image in GRAY[:3]]
        frames[0].save(tmp_path / name / "1.gif", save_all=True, append_images=frames[1:])
    x = read(tmp_path)
    np.testing.assert_allclose(x[0, 0, 0], [0, 1, 1], atol=0.02)
    np.testing.assert_allclose(x[1, ..., 0], GRAY[0] / 255, atol=1e-12)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_exif_rotation(suffix: str, tmp_path: Path) -> None:
    upright = np.repeat(np.repeat(np.array([[0, 250], [120, 60], [30, 200]], dtype=np.uint8), 8, 0), 8, 1)
    lying = Image.fromarray(np.rot90(upright))
    exif = lying.getexif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    for name in "ab":
        (tmp_path / name).mkdir()
        lying.save(tmp_path / name / f"0{suffix}", exif=exif, quality=95)
        Image.fromarray(upright).save(tmp_path / name / "1.png")
    x = read(tmp_path)
    assert x.shape[:3] == (4, 24, 16), "sizes are told as images are looked at"
    np.testing.assert_allclose(x[0], x[1], atol=0.05)
    assert x[0, 0, -1, 0] > 0.9 and x[0, 0, 0, 0] < 0.1


def test_rotated_images_among_headers_of_one_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    fill(tmp_path, GRAY)
    Image.fromarray(GRAY[0]).save(tmp_path / "b" / "zz.png", exif=exif)
    with pytest.raises(DataError, match="of 2 sizes, from 6 x 8 to 8 x 6"):
        read(tmp_path)
    x = read(tmp_path, 6)
    assert x.shape == (13, 6, 6, 1)
    np.testing.assert_allclose(x[12, ..., 0], np.rot90(x[0, ..., 0], -1), atol=1e-6)


def broken(root: Path) -> Path:
    """Twelve good images and five that nobody can read."""
    fill(root, GRAY)
    good = (root / "a" / "000.png").read_bytes()
    (root / "a" / "bad 1.png").write_bytes(good[: len(good) // 2])
    (root / "a" / "bad 2.jpg").write_bytes(b"no image")
    (root / "b" / "bad 3.png").write_bytes(b"")
    os.mkfifo(root / "b" / "bad 4.png")
    (root / "b" / "bad 5.gif").symlink_to(root / "b" / "gone.gif")
    return root


def test_broken_images_are_counted_and_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="5 of 17 images cannot be used") as caught:
        data.load(f"folder:{broken(tmp_path)}")
    message = str(caught.value)
    assert "\n" not in message and message.count("bad ") == 3 and "and 2 more" in message
    assert "--skip-bad" in message and str(tmp_path) not in message


def test_skip_bad_leaves_them_out_and_says_so(tmp_path: Path) -> None:
    loaded = data.load(f"folder:{broken(tmp_path / 'broken')}", skip_bad=True)
    assert any("5 of 17 images cannot be used and are left out" in note for note in loaded.notes)
    clean = data.load(f"folder:{fill(tmp_path / 'clean', GRAY)}")
    np.testing.assert_array_equal(loaded.x_train, clean.x_train)
    assert loaded.fingerprint == clean.fingerprint
    assert any("left out" in note for note in data.split(loaded, 4, 4, seed=0).notes)


def test_skip_bad_leaves_out_images_below_the_size(tmp_path: Path) -> None:
    fill(tmp_path, GRAY)
    Image.fromarray(GRAY[0][:3]).save(tmp_path / "a" / "small.png")
    with pytest.raises(DataError, match="--image-size 4 is above the size of 1 images .*use at most 3"):
        data.load(f"folder:{tmp_path}", image_size=4)
    loaded = data.load(f"folder:{tmp_path}", image_size=4, skip_bad=True)
    assert len(loaded.x_train) + len(loaded.x_test) == 12


def test_decompression_bomb(tmp_path: Path) -> None:
    fill(tmp_path, GRAY)
    for name, side in (("warns", 10_000), ("raises", 20_000)):
        Image.new("1", (side, side)).save(tmp_path / "a" / f"{name}.png")
    with pytest.raises(DataError, match="2 of 14 images cannot be used .*more than 89,478,485 pixels"):
        data.load(f"folder:{tmp_path}")


@pytest.mark.parametrize("kind", ["file", "folder", "class"])
def test_links_that_leave_the_folder_are_refused(kind: str, tmp_path: Path) -> None:
    outside = fill(tmp_path / "outside", GRAY)
    root = fill(tmp_path / "root", GRAY)
    link, target = {
        "file": (root / "a" / "z.png", outside / "a" / "000.png"),
        "folder": (root / "a" / "more", outside / "a"),
        "class": (root / "c", outside / "a"),
    }[kind]
    link.symlink_to(target)
    with pytest.raises(DataError, match="link that leaves the folder"):
        data.load(f"folder:{root}", skip_bad=True)


def test_links_inside_are_read_and_circles_are_not_followed(tmp_path: Path) -> None:
    root = fill(tmp_path / "root", GRAY)
    (root / "a" / "copy.png").symlink_to(root / "b" / "011.png")
    (root / "a" / "circle").symlink_to(root / "a")
    (tmp_path / "entry").symlink_to(root)
    loaded = data.load(f"folder:{tmp_path / 'entry'}")
    assert len(loaded.x_train) + len(loaded.x_test) == 13


def test_uniform_images_beyond_the_budget_ask_for_image_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nas_cntk.data import sources

    monkeypatch.setattr(sources, "MAX_BYTES", 1000)
    with pytest.raises(DataError, match="--image-size"):
        data.load(f"folder:{fill(tmp_path, GRAY)}")


def test_seeded_split_of_a_folder_is_the_same_for_other_file_names(tmp_path: Path) -> None:
    one = fill(tmp_path / "one" / "train", GRAY)
    fill(tmp_path / "one" / "test", COLOUR[..., 0])
    fill(tmp_path / "two" / "test", COLOUR[..., 0])
    for path in sorted(one.rglob("*.png")):
        target = tmp_path / "two" / "train" / path.parent.name / f"{999 - int(path.stem)}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    first, second = (data.split(data.load(f"folder:{tmp_path / name}"), 4, 4, seed=2) for name in ("one", "two"))
    np.testing.assert_array_equal(first.x, second.x)
    np.testing.assert_array_equal(first.x_holdout, second.x_holdout)
