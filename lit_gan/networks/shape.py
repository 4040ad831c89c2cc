"""The pyramid that every convolutional network here climbs: from a base grid, doubling, to the image."""

from __future__ import annotations

from typing import NamedTuple

from lit_gan.errors import UserError


class Pyramid(NamedTuple):
    """`stages` doublings lead from the `height` x `width` base grid to the image."""

    height: int
    width: int
    stages: int

    def size(self, stage: int) -> tuple[int, int]:
        """Height and width after `stage` doublings."""
        return self.height << stage, self.width << stage


def pyramid(image_shape: tuple[int, int, int], *, variant: str) -> Pyramid:
    """Halve while both sides are even and stay at 4 or more: 32x32 -> 4x4, 3 stages; 20x12 -> 10x6, 1.

    Raises a `UserError` naming `variant` where not even one halving is possible.
    """
    channels, height, width = image_shape
    stages = 0
    while height % 2 == 0 and width % 2 == 0 and min(height, width) >= 8:
        height, width, stages = height // 2, width // 2, stages + 1
    if stages == 0:
        raise UserError(
            f"{variant} cannot make images of {height}x{width} pixels ({channels} channels): both sides must "
            "be even and at least 8; set data.image_size=32, or another multiple of 8, or take arch=gan"
        )
    return Pyramid(height, width, stages)


def widths_of(base: Pyramid, width: int, max_width: int) -> list[int]:
    """Maps per resolution, base grid to image: `width` at the image, doubled at each halving, capped."""
    return [min(width << (base.stages - stage), max_width) for stage in range(base.stages + 1)]
