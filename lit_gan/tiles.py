"""An image through a fully convolutional network in overlapping tiles, without seams: memory for a tile, not for the image.

A tile's result is wrong near the edges that it has inside the image, by as many pixels as the network reaches: these are
left out. Where the network reaches farther than the overlap, as a norm over the whole image does, tiles are faded
into each other instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_gan.memory import free_memory, memory_of

Network = Callable[
    [Tensor], Tensor
]  # [1, C, H, W] -> [1, C', scale H, scale W]; H and W multiples of its stride, and at least its least side

OVERLAP = 64  # pixels that tiles share where the network's reach is not known
PROBE = 256  # side of the tile by which the network's memory is measured
SHARE = 0.5  # of the free memory that a tile may take
UNKNOWN = 512  # side of a tile where the free memory, or what the network takes, cannot be measured


@dataclass(frozen=True)
class Tiling:
    """How a network takes images: stride, scale, reach (None: global), least side, and the side of a tile (None: whole)."""

    stride: int = 1
    scale: int = 1
    reach: int | None = None
    tile: int | None = None
    least_side: int = 1

    @property
    def margin(self) -> int:
        """Pixels of the source at an inner edge that do not count, in whole strides."""
        return 0 if self.reach is None else -(-self.reach // self.stride) * self.stride

    @property
    def overlap(self) -> int:
        """Pixels of the source that neighbours share at least."""
        return 2 * self.margin if self.reach is not None else -(-OVERLAP // self.stride) * self.stride

    @property
    def least(self) -> int:
        """The side below which tiles would not get on, or the network would not take them."""
        return max(self.overlap + self.stride, -(-self.least_side // self.stride) * self.stride)

    def padded(self, image: Tensor) -> Tensor:
        """`image` [B, C, H, W] as the network takes it."""
        return pad_to(image, self.stride, self.least_side)


def through(network: Network, image: Tensor, tiling: Tiling) -> Tensor:
    """What `network` makes of `image` [1, C, H, W], on the processor as float32 [1, C', scale H, scale W].

    Sides that are no multiples of the stride, or below the least, are padded by reflection and cut back.
    """
    height, width = image.shape[2:]
    padded = tiling.padded(image)
    tall, wide = padded.shape[2:]
    side = tiling.tile
    if side is None or (side >= tall and side >= wide):
        made = network(padded).float().cpu()
    else:
        side = max(side // tiling.stride * tiling.stride, tiling.least)
        made = _in_tiles(network, padded, tiling, fitting(tall, side, tiling), fitting(wide, side, tiling))
    return made[:, :, : height * tiling.scale, : width * tiling.scale]


def pad_to(image: Tensor, stride: int, least: int = 1) -> Tensor:
    """`image` [B, C, H, W] with sides that are multiples of `stride` and at least `least`, more to the right and below:
    reflected."""
    below, right = (max(side + -side % stride, least + -least % stride) - side for side in image.shape[2:])
    while below or right:  # a reflection has at most the pixels that are there, but the last
        now = (min(right, image.shape[3] - 1), min(below, image.shape[2] - 1))
        if now == (0, 0):  # a side of one pixel
            return F.pad(image, (0, right, 0, below), mode="replicate")
        mode = "reflect" if all(now) or image.shape[2] > 1 < image.shape[3] else "replicate"
        image = F.pad(image, (0, now[0], 0, now[1]), mode=mode)
        below, right = below - now[1], right - now[0]
    return image


def _in_tiles(network: Network, image: Tensor, tiling: Tiling, high: int, broad: int) -> Tensor:
    tall, wide = image.shape[2:]
    rows, columns = starts(tall, high, tiling), starts(wide, broad, tiling)
    total: Tensor | None = None
    weights = torch.zeros(1, 1, tall * tiling.scale, wide * tiling.scale)
    for top, left in product(rows, columns):
        bottom, right = min(top + high, tall), min(left + broad, wide)
        made = network(image[:, :, top:bottom, left:right]).float().cpu()
        weight = torch.outer(
            profile(top, bottom, tall, tiling, neighbours(rows, top, high, tall)),
            profile(left, right, wide, tiling, neighbours(columns, left, broad, wide)),
        )
        if total is None:
            total = torch.zeros(1, made.shape[1], *weights.shape[2:])
        place = (
            ...,
            slice(top * tiling.scale, bottom * tiling.scale),
            slice(left * tiling.scale, right * tiling.scale),
        )
        total[place] += made * weight
        weights[place] += weight
    assert total is not None
    return total / weights


def fitting(length: int, side: int, tiling: Tiling) -> int:
    """The least side with which as many tiles as of `side` cover `length`: the last would else be mostly its neighbour."""
    if side >= length:
        return length
    number = len(starts(length, side, tiling))
    least = -(-(length + (number - 1) * tiling.overlap) // number)
    return max(-(-least // tiling.stride) * tiling.stride, tiling.least)


def starts(length: int, side: int, tiling: Tiling) -> list[int]:
    """Where tiles of `side` begin along `length`: whole strides, every pixel covered, an overlap at least."""
    if side >= length:
        return [0]
    step = (side - tiling.overlap) // tiling.stride * tiling.stride
    last = -(-(length - side) // tiling.stride) * tiling.stride
    return [*range(0, last, step), last]


def neighbours(places: list[int], start: int, side: int, length: int) -> tuple[int, int]:
    """How many pixels the tile at `start` shares with the one before it and with the one after it."""
    i = places.index(start)
    before = min(places[i - 1] + side, length) - start if i else 0
    after = min(start + side, length) - places[i + 1] if i + 1 < len(places) else 0
    return before, after


def profile(start: int, stop: int, length: int, tiling: Tiling, shared: tuple[int, int]) -> Tensor:
    """The weight of a tile along one side [scale (stop - start)]: 1, falling at inner edges, 0 in their margin."""
    at = (torch.arange((stop - start) * tiling.scale) + 0.5) / tiling.scale  # pixels of the source
    weight = torch.ones_like(at)
    for inner, distance, overlap in (
        (start > 0, at, shared[0]),
        (stop < length, (stop - start) - at, shared[1]),
    ):
        if inner:
            ramp = max(overlap - 2 * tiling.margin, 1)  # where two tiles are both right
            weight = weight * ((distance - tiling.margin) / ramp).clamp(0, 1)
    return weight


def tile_for(network: Network, image: Tensor, tiling: Tiling) -> int | None:
    """The side of tiles that fit into the free memory, or None where the whole image does.

    Measured on a corner of `image` [1, C, H, W], unless memory cannot be measured here: then tiles have UNKNOWN pixels. An
    image no larger than the corner is taken whole: to measure it would be to translate it twice.
    """
    height, width = image.shape[2:]
    if max(height, width) <= PROBE:
        return None
    probe = tiling.padded(image[:, :, :PROBE, :PROBE])
    free, taken = free_memory(image.device), memory_of(network, probe)
    if free is None or taken is None:
        return None if max(height, width) <= UNKNOWN else max(UNKNOWN, tiling.least)
    each: int = max(taken // (probe.shape[2] * probe.shape[3]), 1)
    if each * height * width <= SHARE * free:
        return None
    side = isqrt(int(SHARE * free) // each) // tiling.stride * tiling.stride
    return max(side, tiling.least)
