"""Holes for inpainting as functions of one random word: boxes (Pathak et al. 2016, arXiv:1604.07379) and free-form strokes
(Yu et al. 2018, arXiv:1806.03589, algorithm 1, its lengths for 256 pixels taken in proportion to the image).
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lit_gan.data.order import shares, words

Kind = Literal["boxes", "strokes", "mixed"]
_MOST_STROKES, _MOST_VERTICES = 4, 12
_WIDTH, _LENGTH = (12 / 256, 40 / 256), 60 / 256  # of a stroke, in shorter sides of the image
_ANGLE, _SWING = 2 * math.pi / 5, 2 * math.pi / 15


def hole(word: int, size: tuple[int, int], kind: Kind) -> NDArray[np.uint8]:
    """A mask [H, W], 1 in the hole: a box of a quarter to half of each side, strokes, or with `mixed` either of them."""
    drawn = shares(words(word, 0, np.arange(8, dtype=np.int64)))
    if kind == "boxes" or (kind == "mixed" and drawn[0] < 0.5):
        mask = np.zeros(size, dtype=np.uint8)
        sides = [
            max(1, round(side * (0.25 + 0.25 * share))) for side, share in zip(size, drawn[1:3], strict=True)
        ]
        top, left = (
            int(share * (side - length + 1))
            for side, length, share in zip(size, sides, drawn[3:5], strict=True)
        )
        mask[top : top + sides[0], left : left + sides[1]] = 1
        return mask
    return _strokes(word, size)


def _strokes(word: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    height, width = size
    unit = min(size)
    canvas = Image.new("L", (width, height), 0)
    draw = ImageDraw.Draw(canvas)
    count = 1 + int(shares(words(word, 1, np.zeros(1, dtype=np.int64)))[0] * _MOST_STROKES)
    for stroke in range(count):
        drawn = iter(shares(words(word, 2 + stroke, np.arange(5 + 2 * _MOST_VERTICES, dtype=np.int64))))
        x, y = next(drawn) * width, next(drawn) * height
        thick = max(1, round(unit * (_WIDTH[0] + (_WIDTH[1] - _WIDTH[0]) * next(drawn))))
        swing = _ANGLE + _SWING * (2 * next(drawn) - 1)
        points = [(x, y)]
        for vertex in range(1 + int(next(drawn) * _MOST_VERTICES)):
            angle = swing * next(drawn)
            if vertex % 2 == 0:  # reversed at every second vertex: strokes go back and forth
                angle = 2 * math.pi - angle
            length = _LENGTH * unit * (0.5 + next(drawn))
            x = min(max(x + length * math.sin(angle), 0.0), width - 1.0)
            y = min(max(y + length * math.cos(angle), 0.0), height - 1.0)
            points.append((x, y))
        draw.line(points, fill=1, width=thick)
        for x, y in points:  # round joints
            draw.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), fill=1)
    mask = np.array(canvas, dtype=np.uint8)
    if not mask.any():
        mask[int(points[0][1]), int(points[0][0])] = 1
    return mask
