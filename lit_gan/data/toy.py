"""Points in the plane from a mixture of Gaussians whose modes can be counted.

Ring: 8 modes on a circle of radius 2, standard deviation 0.02. Grid: 25 modes at {-4, -2, 0, 2, 4} squared,
0.05. Both are divided by `scale`, so that the outermost modes lie at 0.8 and the data in [-1, 1].
"""

from __future__ import annotations

import hashlib
import math
from typing import Literal

import numpy as np

from lit_gan.data.base import ImageData
from lit_gan.data.decoded import Images
from lit_gan.errors import UserError

_EXTENT = {"ring": 2.0, "grid": 4.0}  # distance of the outermost modes from an axis
_SIGMA = {"ring": 0.02, "grid": 0.05}
_MODES = {"ring": 8, "grid": 25}


class Toy(ImageData):
    """2-D points on a ring or grid of Gaussians, as images of shape (2, 1, 1); the label is the mode.

    `centres` [K, 2] and `std` are those of the scaled data, and what the score `toy-modes` reads; times `scale` they
    are the published ones.
    """

    def __init__(
        self,
        *,
        kind: Literal["ring", "grid"] = "ring",
        modes: int | None = None,  # null: 8 on the ring, 25 on the grid (a square number)
        count: int = 50_000,  # points
        points_seed: int = 0,  # of the points themselves, apart from the run's seed
        batch_size: int = 256,  # points per discriminator update, over all processes
        workers: int = 0,
    ) -> None:
        super().__init__(source_name=f"toy {kind}", batch_size=batch_size, flip=False, workers=workers)
        self.kind = kind
        self.modes = _MODES[kind] if modes is None else modes
        self.count = count
        self.points_seed = points_seed
        if self.modes < 1 or (kind == "grid" and math.isqrt(self.modes) ** 2 != self.modes):
            nearest = max(math.isqrt(max(self.modes, 1)), 1) ** 2
            raise UserError(f"data.modes={self.modes} does not make a {kind}; use data.modes={nearest}")
        if count < 1:
            raise UserError(f"data.count={count} is not a number of points; use at least 1")
        self.scale = _EXTENT[kind] / 0.8
        self.std = _SIGMA[kind] / self.scale
        if kind == "ring":
            angles = 2 * np.pi * np.arange(self.modes) / self.modes
            self.centres = 0.8 * np.stack([np.cos(angles), np.sin(angles)], axis=1)  # [K, 2]
        else:
            side = math.isqrt(self.modes)
            axis = np.linspace(-0.8, 0.8, side) if side > 1 else np.zeros(1)
            self.centres = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)  # [K, 2]

    def _load(self) -> Images:
        generator = np.random.default_rng(self.points_seed)
        labels = generator.integers(self.modes, size=self.count, dtype=np.int64)
        points = self.centres[labels] + self.std * generator.standard_normal((self.count, 2))
        images = points.astype(np.float32).reshape(self.count, 1, 1, 2)  # [N, H, W, C]
        fingerprint = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
        return Images(images, labels, tuple(f"mode {mode}" for mode in range(self.modes)), fingerprint)
