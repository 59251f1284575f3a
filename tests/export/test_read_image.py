"""`read_image` of model.py: the same pixels as `predict` reads, from files of every kind, size and mode."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nas_cntk import Builder
from nas_cntk.data import Dataset, load
from nas_cntk.errors import DataError
from nas_cntk.export.images import read_images
from nas_cntk.export.manifest import Resize
from nas_cntk.export.read_image import like_image_files
from nas_cntk.export.source import model_source

Pixels = Callable[..., Any]  # shape -> random bytes


def reader(shape: tuple[int, int, int], resize: Resize | None) -> dict[str, Any]:
    """Return the names of a model.py for images of this shape."""
    b = Builder()
    b.dense(b.global_avg_pool(b.relu(b.conv(b.input(), 3))))
    text = model_source(
        b.build(),
        shape,
        ["a", "b"],
        width=2,
        batch_norm=True,
        mean=[0.5] * shape[2],
        deviation=[0.25] * shape[2],
        pixels="8-bit pixel values divided by 255",
        title="A network.",
        about="Nothing more.",
        trained=True,
        photos=resize,
    )
    assert max(map(len, text.splitlines())) <= 120 and "numpy" not in text
    namespace: dict[str, Any] = {}
    exec(compile(text, "model.py", "exec"), namespace)
    return namespace


def palette(pixels: Pixels, path: Path, transparent: bool = False) -> None:
    image = Image.fromarray(pixels(9, 7, 3)).quantize(11)
    image.save(path, **({"transparency": bytes([0, 60, 200])} if transparent else {}))


def turned(pixels: Pixels, path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels(11, 6, 3)).save(path, exif=exif)


FILES: dict[str, Callable[[Pixels, Path], object]] = {
    "rgb.png": lambda pixels, path: Image.fromarray(pixels(13, 9, 3)).save(path),
    "large.png": lambda pixels, path: Image.fromarray(pixels(101, 67, 3)).save(path),
    "small.png": lambda pixels, path: Image.fromarray(pixels(3, 2, 3)).save(path),
    "same.png": lambda pixels, path: Image.fromarray(pixels(6, 5, 3)).save(path),
    "one.png": lambda pixels, path: Image.fromarray(pixels(1, 1, 3)).save(path),
    "twice.png": lambda pixels, path: Image.fromarray(pixels(12, 10, 3)).save(path),
    "gray.png": lambda pixels, path: Image.fromarray(pixels(8, 17)).save(path),
    "gray in colour.png": lambda pixels, path: Image.fromarray(pixels(8, 7, 1).repeat(3, axis=2)).save(path),
    "gray, transparent.png": lambda pixels, path: Image.fromarray(pixels(8, 7, 2), "LA").save(path),
    "gray, one value transparent.png": lambda pixels, path: Image.fromarray(pixels(30, 30)).save(path, transparency=7),
    "16 bits.png": lambda pixels, path: Image.fromarray(pixels(9, 8, 2).view(np.uint16)[..., 0]).save(path),
    "bits.png": lambda pixels, path: Image.fromarray(pixels(9, 8)).convert("1").save(path),
    "rgba.png": lambda pixels, path: Image.fromarray(pixels(13, 9, 4)).save(path),
    "palette.png": palette,
    "palette, transparent.png": lambda pixels, path: palette(pixels, path, transparent=True),
    "palette.gif": palette,
    "photo.jpg": lambda pixels, path: Image.fromarray(pixels(31, 20, 3)).save(path),
    "gray.jpg": lambda pixels, path: Image.fromarray(pixels(31, 20)).save(path),
    "cmyk.jpg": lambda pixels, path: Image.fromarray(pixels(31, 20, 4), "CMYK").save(path),
    "photo.webp": lambda pixels, path: Image.fromarray(pixels(31, 20, 3)).save(path),
    "photo.bmp": lambda pixels, path: Image.fromarray(pixels(31, 20, 3)).save(path),
    **{
        f"turned {k}.{kind}": lambda pixels, path, k=k: turned(pixels, path, k)
        for k in range(1, 9)
        for kind in ("jpg", "png")
    },
}


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", FILES)
def test_it_reads_what_predict_reads(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng([*name.encode()])
    path = tmp_path / "folder" / name
    path.parent.mkdir()
    FILES[name](lambda *shape: rng.integers(0, 256, shape, dtype=np.uint8), path)
    read = 0
    for channels in (1, 3):
        for resize in ("any", "shrink", "never"):
            shape = (6, 5, channels)
            ours = reader(shape, resize)["read_image"]
            try:
                due = read_images(f"folder:{path.parent}", shape, resize=resize).x[0]
            except DataError:
                with pytest.raises(ValueError, match=re.escape(str(path))):
                    ours(path)
                continue
            found = ours(str(path))
            assert found.dtype == torch.float32 and found.shape == shape
            np.testing.assert_allclose(found.numpy(), due, rtol=2e-7, atol=0)
            read += 1
    assert read >= 1 + ("gray" in name or "bits" in name)


def test_every_transparency_of_every_value(tmp_path: Path) -> None:
    values, alpha = np.meshgrid(np.arange(256), np.arange(256))
    Image.fromarray(np.stack([values, values, values, alpha], axis=-1).astype(np.uint8)).save(tmp_path / "a.png")
    due = read_images(f"folder:{tmp_path}", (256, 256, 3), resize="never").x[0]
    assert np.array_equal(reader((256, 256, 3), "never")["read_image"](tmp_path / "a.png").numpy(), due)


def test_it_is_made_for_preprocess(tmp_path: Path) -> None:
    Image.new("RGB", (50, 40), (255, 0, 51)).save(tmp_path / "a.png")
    found = reader((6, 5, 3), "any")
    images = found["preprocess"](torch.stack([found["read_image"](tmp_path / "a.png")] * 2))
    assert images.shape == (2, 3, 6, 5)
    np.testing.assert_allclose(images.numpy()[1, :, 3, 2], (np.array([1, 0, 0.2]) - 0.5) / 0.25, rtol=1e-6)


def test_what_is_no_image_file_is_not_read(tmp_path: Path) -> None:
    assert "read_image" not in reader((6, 5, 3), None) and "Path" not in reader((6, 5, 3), None)
    (tmp_path / "a.png").write_text("no")
    with pytest.raises(OSError, match="cannot identify image file"):
        reader((6, 5, 3), "any")["read_image"](tmp_path / "a.png")


@pytest.mark.parametrize(
    "spec, divisor, most, like",
    [
        ("npz:a.npz", 255, 250, True),
        ("npz:a.npz", 255, 16, False),  # bytes, but no brightness in 8 bits
        ("npz:a.npz", 1, 1, False),
        ("digits", 16, 16, False),
        ("idx:a", 255, 250, True),
        ("folder:a", 255, 16, True),
        ("folder:a", 1, 1, True),  # of several sizes: averaged when it was read
    ],
)
def test_where_pixel_values_are_those_of_image_files(spec: str, divisor: float, most: float, like: bool) -> None:
    for channels in (1, 2, 3):
        x, y = np.full((2, 4, 4, channels), most / divisor, dtype=np.float32), np.zeros(2, dtype=np.int64)
        dataset = Dataset("a", spec, x, y, x, y, ("a", "b"), "", divisor=divisor)
        assert like_image_files(dataset) == (like and channels != 2)


def test_the_divisor_comes_with_the_data(tmp_path: Path) -> None:
    x, y = np.zeros((10, 4, 4), dtype=np.uint8), np.arange(10) % 2
    np.savez(tmp_path / "bytes.npz", x=x, y=y)
    np.savez(tmp_path / "floats.npz", x=x / 255, y=y, x_test=x / 255, y_test=y)
    found = [load("digits"), *(load(f"npz:{tmp_path / name}.npz") for name in ("bytes", "floats"))]
    assert [dataset.divisor for dataset in found] == [16, 255, 1]
    assert [dataset.test_given for dataset in found] == [True, False, True]
