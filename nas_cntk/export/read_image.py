"""`read_image` of a model.py: one image file as `predict` reads it, with Pillow and torch alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas_cntk.export.manifest import Resize

if TYPE_CHECKING:
    from nas_cntk.data import Dataset

WHITE = 255.0  # of 8 bits
DIM = 0.25  # of white: bytes that never exceed it are no brightness in 8 bits, as digits of 0 to 16 are none

_HEAD = '''

def read_image(path: str | Path) -> torch.Tensor:
    """Return an image file as `preprocess` takes it, shape ({h}, {w}, {c}), values from 0 to 1. Needs Pillow.

    It is turned as its EXIF says, and laid on black where it is transparent. {channels}
    {sizes}
    """
    from PIL import Image, ImageOps

    with Image.open(path, formats=("PNG", "JPEG", "BMP", "GIF", "WEBP")) as opened:
        image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I"):  # gray of 16 bits
        values = torch.frombuffer(bytearray(image.convert("I").tobytes()), dtype=torch.int32).clamp(0, 65535)
    else:
        if image.has_transparency_data:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image.convert("RGBA"))
        values = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
    white = 255 if values.dtype == torch.uint8 else 65535
    pixels = values.reshape(image.height, image.width, -1)
'''

_CHANNELS = {
    1: (
        "One in colour raises ValueError.",
        """\
    if (pixels != pixels[..., :1]).any():
        raise ValueError(f"{path} is in colour, the network reads gray images")
    pixels = pixels[..., :1]
""",
    ),
    3: ("Gray becomes colour.", "    pixels = pixels.expand(-1, -1, 3)\n"),
}

_AVERAGED = '''\
    rows, columns = _overlaps(image.height, IMAGE_SHAPE[0]), _overlaps(image.width, IMAGE_SHAPE[1])
    averages = [rows @ pixels[..., channel].double() @ columns.T for channel in range(IMAGE_SHAPE[2])]
    return (torch.stack(averages, dim=-1) / white).float()


def _overlaps(size: int, new_size: int) -> torch.Tensor:
    """Return weights, shape (new_size, size): the share of each of `size` equal parts in each of `new_size`."""
    new, old = torch.arange(new_size)[:, None] * size, torch.arange(size) * new_size
    shared = torch.minimum(new + size, old + new_size) - torch.maximum(new, old)
    return shared.clamp(min=0).double() / size
'''

_SIZES: dict[Resize, tuple[str, str]] = {
    "never": (
        "One of another size raises ValueError.",
        """\
    if pixels.shape != IMAGE_SHAPE:
        raise ValueError(f"{path} has {image.height} x {image.width} pixels, IMAGE_SHAPE is {IMAGE_SHAPE}")
    return pixels.float() / white
""",
    ),
    "shrink": (
        "A larger one is averaged, each new pixel the mean over its area; a smaller one raises ValueError.",
        """\
    if image.height < IMAGE_SHAPE[0] or image.width < IMAGE_SHAPE[1]:
        raise ValueError(f"{path} has {image.height} x {image.width} pixels, fewer than IMAGE_SHAPE {IMAGE_SHAPE}")
"""
        + _AVERAGED,
    ),
    "any": ("One of another size is averaged, each new pixel the mean over its area.", _AVERAGED),
}


def like_image_files(dataset: Dataset) -> bool:
    """Return whether pixel values of a dataset, not standardised, are those of an image file, white being 1."""
    files = dataset.spec.startswith("folder:")
    eight_bits = dataset.divisor == WHITE and float(dataset.x_train.max()) > DIM
    return (files or eight_bits) and dataset.image_shape[2] in _CHANNELS


def read_image_source(image_shape: tuple[int, int, int], resize: Resize) -> str:
    """Return the text of `read_image`, to stand below the constants of model.py.

    Args:
        image_shape: (h, w, c), with 1 or 3 channels.
        resize: what becomes of files of another height and width.
    """
    h, w, c = image_shape
    (channels, as_channels), (sizes, as_size) = _CHANNELS[c], _SIZES[resize]
    return _HEAD.format(h=h, w=w, c=c, channels=channels, sizes=sizes) + as_channels + as_size
