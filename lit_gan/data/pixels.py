"""One image of any kind to uint8 pixels of one size and number of channels."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Image.MAX_IMAGE_PIXELS = None  # as in files.py: these are the user's own files, and of any size

Pixels = NDArray[np.uint8]
Size = tuple[int, int]  # height, width
Crop = Literal["center", "none"]
Resample = Literal["lanczos", "bicubic"]

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_RESAMPLE = {"lanczos": Image.Resampling.LANCZOS, "bicubic": Image.Resampling.BICUBIC}


def upright_size(image: Image.Image) -> Size:
    """Height and width of the image as it is meant to be seen (EXIF orientation applied)."""
    width, height = ImageOps.exif_transpose(image).size
    return height, width


def pixels(image: Image.Image, *, size: Size, channels: int, crop: Crop, resample: Resample) -> Pixels:
    """Decode, turn upright, convert, crop and resize to uint8 [H, W, C]; raises as PIL does, or ValueError.

    `crop="center"` cuts the largest centred part of the target's aspect ratio, "none" squashes. Resizing is
    antialiased (PIL widens its filters when it shrinks, and weighs colours with alpha). Of an animation the
    first frame counts; colour profiles are ignored, as data sets for GANs do.
    """
    height, width = size
    converted = convert(ImageOps.exif_transpose(image), channels)
    box = centre_box(converted.size, (width, height)) if crop == "center" else None
    if converted.size != (width, height):
        converted = converted.resize((width, height), _RESAMPLE[resample], box=box)
    return np.asarray(converted, dtype=np.uint8).reshape(height, width, channels)


def centre_box(size: tuple[int, int], target: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest centred box of `target`'s aspect ratio in an image of `size`; both (width, height)."""
    scale = min(size[0] / target[0], size[1] / target[1])
    width, height = target[0] * scale, target[1] * scale
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    return max(left, 0.0), max(top, 0.0), min(left + width, size[0]), min(top + height, size[1])


def convert(image: Image.Image, channels: int) -> Image.Image:
    """Any PIL mode to grey (1), RGB (3) or RGBA (4) of 8 bits; alpha that is dropped turns white.

    16-bit grey is scaled to 8 bits. ValueError for pixels without a known range (floats, 32-bit integers
    beyond 16 bits), because guessing the range of each image would change the brightness from image to image.
    """
    if image.mode.startswith("I"):
        image = _from_16_bits(image)
    elif image.mode == "F":
        raise ValueError("floating-point pixels have no known range, save them as 8 or 16 bits")
    has_alpha = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    if has_alpha and channels != 4:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        image = opaque.convert("RGB")
    elif image.mode not in ("1", "L", "RGB", "RGBA"):
        image = image.convert("RGBA" if has_alpha else "RGB")  # palettes, CMYK, YCbCr, LAB, HSV
    return image.convert(MODES[channels])


def _from_16_bits(image: Image.Image) -> Image.Image:
    """PIL itself clips at 255 when it converts 16-bit grey, which turns most images white."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"pixels from {values.min()} to {values.max()} are beyond 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))  # 65535 = 255 * 257
