"""What is said of an image, made true of one that a network made of it: colour profile, resolution, place on the earth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

_PROFILE = 34675
_EXIF_RESOLUTION, _EXIF_INNER, _EXIF_SIDES = (282, 283), 34665, (40962, 40963)
_PIXEL_SCALE, _TIE_POINTS, _TRANSFORMATION, _GEO_KEYS = 33550, 33922, 34264, 34735  # GeoTIFF 1.1, section 7.1
_RASTER_TYPE, _IS_POINT = 1025, 2
_SPACES = {1: b"GRAY", 3: b"RGB "}  # by colours; bytes 16 to 19 of an ICC profile


def handed_on(metadata: Mapping[str, Any], *, colours: int, scale: int) -> dict[str, Any]:
    """`metadata` of a `Picture` for one that has so many colours (alpha apart) and is `scale` times as large.

    A colour profile of another colour space is left out: it told what the numbers of a file meant that was CMYK, say.
    """
    found = dict(metadata)
    if "icc" in found and not _is_of(found["icc"], colours):
        del found["icc"]
    if "tiff" in found:
        tags = dict(found["tiff"])
        if _PROFILE in tags and not _is_of(tags[_PROFILE][2], colours):
            del tags[_PROFILE]
        found["tiff"] = tags if scale == 1 else _placed(tags, scale)
    if scale != 1:  # the same inches, and more pixels
        if "resolution" in found:
            x, y, unit = found["resolution"]
            found["resolution"] = (x * scale, y * scale, unit)
        if "dpi" in found:
            found["dpi"] = tuple(side * scale for side in found["dpi"])
        if "exif" in found:
            found["exif"] = _larger(found["exif"], scale)
    return found


def _larger(exif: bytes, scale: int) -> bytes:
    """EXIF of an image `scale` times as large: pixels an inch, and the sides, where it has them."""
    found = Image.Exif()
    found.load(exif)
    for tag in _EXIF_RESOLUTION:
        if tag in found:
            found[tag] = float(found[tag]) * scale
    inner = found.get_ifd(_EXIF_INNER)
    for tag in _EXIF_SIDES:
        if tag in inner:
            inner[tag] = int(inner[tag]) * scale
    return found.tobytes()


def _is_of(profile: bytes, colours: int) -> bool:
    return bytes(profile[16:20]) == _SPACES.get(colours)


def _placed(tags: Mapping[int, Any], scale: int) -> dict[int, Any]:
    """A GeoTIFF's tags, (type, count, value) by code, for pixels of a `scale`-th of the side."""
    found = dict(tags)
    # A place counts pixels from the corner of the first one, or from its centre, which moves: old = new / scale + shift.
    shift = (1 / scale - 1) / 2 if _counts_from_centres(tags) else 0.0
    if _PIXEL_SCALE in tags:
        kind, count, (x, y, *rest) = tags[_PIXEL_SCALE]
        found[_PIXEL_SCALE] = kind, count, (x / scale, y / scale, *rest)
    if _TIE_POINTS in tags:  # i, j, k of a pixel and x, y, z of its place, for every point
        kind, count, value = tags[_TIE_POINTS]
        points = np.array(value, dtype=np.float64).reshape(-1, 6)
        points[:, :2] = (points[:, :2] - shift) * scale
        found[_TIE_POINTS] = kind, count, tuple(points.ravel().tolist())
    if _TRANSFORMATION in tags:  # (x, y, z, 1) = M (i, j, k, 1)
        kind, count, value = tags[_TRANSFORMATION]
        matrix = np.array(value, dtype=np.float64).reshape(4, 4)
        matrix[:, 3] += matrix[:, :2].sum(axis=1) * shift
        matrix[:, :2] /= scale
        found[_TRANSFORMATION] = kind, count, tuple(matrix.ravel().tolist())
    return found


def _counts_from_centres(tags: Mapping[int, Any]) -> bool:
    keys: Sequence[int] = tags[_GEO_KEYS][2] if _GEO_KEYS in tags else ()
    entries = [keys[at : at + 4] for at in range(4, len(keys) - 3, 4)]  # key, where, count, value
    return any(key == _RASTER_TYPE and not where and value == _IS_POINT for key, where, _, value in entries)


__all__ = ["handed_on"]
