"""The floor of the scores that read images and not features: what pairs of real images get."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from lit_gan.metrics.extractors import Extractor, Source
from lit_gan.metrics.reference import SEED, Floor, Pass, Reference
from lit_gan.metrics.store import save
from lit_gan.metrics.sums import Arrays, EvaluationMetric, float64_device


class ImageReference(Reference):
    """As `Reference`, of images in random order: `half` is the number of those that stand in for fakes."""

    def __init__(
        self, data: Source, extractor: Extractor, *, reals: int | None, fakes: int, real_key: str = "image"
    ) -> None:
        super().__init__(data, extractor, reals=reals, fakes=fakes, real_key=real_key)
        self.half = min(fakes, len(self))
        self.shuffled = self.indices[np.random.default_rng(SEED).permutation(len(self))]

    def _take(
        self,
        folder: Path,
        metrics: dict[str, EvaluationMetric],
        sides: dict[str, Arrays],
        floors: dict[str, Floor],
        how: Pass,
    ) -> None:
        meters = {
            name: type(metric).build_for(self.data, self.extractor, self.half).to(float64_device(how.device))
            for name, metric in metrics.items()
        }
        for numbers in how.share(self.half, together=2):
            images = self.data.real_batch(self.shuffled[numbers].tolist())[self.real_key].to(how.device)
            for meter in meters.values():
                meter.add_images(images, torch.tensor(numbers))
        for name, meter in meters.items():
            if how.world > 1:
                meter.sync()
            if how.rank == 0:
                sides[name] = {}
                floors[name] = meter.values()
                path, description = self._floor_entry(folder, name, meter)
                save(path, {part: np.array(value) for part, value in floors[name].items()}, description)
