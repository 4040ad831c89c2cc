"""Values as functions of the images seen, so that a recipe survives another batch size or number of GPUs."""

from __future__ import annotations

import math


def progress(images_seen: float, duration: float) -> float:
    """The share of `duration` that has passed, in [0, 1]; 1 when `duration` is 0."""
    return min(max(images_seen / duration, 0.0), 1.0) if duration > 0 else 1.0


def linear(images_seen: float, start: float, end: float, duration: float) -> float:
    """From `start` to `end` over `duration` images, constant afterwards."""
    return start + (end - start) * progress(images_seen, duration)


def cosine(images_seen: float, start: float, end: float, duration: float) -> float:
    """Half a cosine from `start` to `end` over `duration` images, constant afterwards (R3GAN, all five schedules)."""
    return end + (start - end) * (1 + math.cos(math.pi * progress(images_seen, duration))) / 2
