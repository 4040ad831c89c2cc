"""Pictures of any depth brought to one number of channels and one size."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lit_gan.data.files import Picture, Pixels


def with_channels(picture: Picture, channels: int) -> Pixels:
    """The pixels [H, W, channels]: grey repeated or made of colour (ITU-R 601), alpha kept as a last channel.

    Alpha that is not asked for turns white. ValueError where the picture cannot have so many channels.
    """
    pixels, alpha = picture.pixels, picture.alpha
    found = pixels.shape[2]
    if alpha is not None and channels not in (2, 4):
        pixels, alpha = _on_white(pixels, alpha), None
    if channels == found and alpha is None:
        return pixels
    if channels in (2, 4) and found in (1, 3):
        colour = _colours(pixels, channels - 1)
        opaque = np.full(pixels.shape[:2], _white(pixels.dtype)) if alpha is None else alpha
        return np.concatenate([colour, opaque[..., None].astype(pixels.dtype)], axis=2)
    if channels in (1, 3) and found in (1, 3):
        return _colours(pixels, channels)
    raise ValueError(f"has {found} channels, which do not become {channels}")


def resized(pixels: Pixels, size: tuple[int, int] | int, *, nearest: bool = False) -> Pixels:
    """Resize to (height, width), or the shorter side in proportion, by bicubic with antialias, each channel alone.

    `nearest` takes the pixel whose centre is nearest instead, for class indices. In the same number type: whole numbers
    are rounded, and cut to their type where bicubic overshoots, as Pillow does it.
    """
    if isinstance(size, int):
        height, width = pixels.shape[:2]
        shorter = min(height, width)
        size = round(height * size / shorter), round(width * size / shorter)
    if pixels.shape[:2] == size:
        return pixels
    if nearest:
        rows, columns = (
            ((np.arange(new) + 0.5) * old / new).astype(np.int64)
            for old, new in zip(pixels.shape[:2], size, strict=True)
        )
        chosen: Pixels = pixels[rows[:, None], columns]
        return chosen
    planes = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(pixels[..., c], dtype=np.float32)).resize(
                (size[1], size[0]), Image.Resampling.BICUBIC
            )
        )
        for c in range(pixels.shape[2])
    ]
    result = np.stack(planes, axis=2)
    if pixels.dtype == np.float32:
        return result
    whole: Pixels = np.rint(result).clip(0, _white(pixels.dtype)).astype(pixels.dtype)
    return whole


def _white(dtype: np.dtype[Any]) -> float:
    return float(np.iinfo(dtype).max) if dtype.kind == "u" else 1.0


def _on_white(pixels: Pixels, alpha: NDArray[Any]) -> Pixels:
    white = _white(pixels.dtype)
    if (alpha == white).all():
        return pixels
    opacity = alpha[..., None].astype(np.float64) / white
    mixed = pixels * opacity + white * (1 - opacity)
    result: Pixels = (np.rint(mixed) if pixels.dtype.kind == "u" else mixed).astype(pixels.dtype)
    return result


def _colours(pixels: Pixels, channels: int) -> Pixels:
    if channels == pixels.shape[2]:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=2)
    grey = pixels.astype(np.float64) @ np.array([[0.299], [0.587], [0.114]])
    result: Pixels = (np.rint(grey) if pixels.dtype.kind == "u" else grey).astype(pixels.dtype)
    return result
