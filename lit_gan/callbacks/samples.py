"""The grid of samples, from the same latents every time, as a PNG and in every logger."""

from __future__ import annotations

from typing import Any

import lightning as L

from lit_gan.callbacks.clock import due
from lit_gan.callbacks.numbers import Numbers
from lit_gan.loggers import show_everywhere
from lit_gan.module import AdversarialModule
from lit_gan.pictures import draw, grid, grid_batch, is_points, save
from lit_gan.run import RunFolder
from lit_gan.settings import Samples

POINTS = 2048  # 2-D points in a grid's picture


class SampleGrid(L.Callback):
    """Writes `samples/kimg<...>.png`; nothing here touches the random stream of training."""

    def __init__(self, run: RunFolder, numbers: Numbers, settings: Samples) -> None:
        self.run = run
        self.numbers = numbers
        self.settings = settings

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, AdversarialModule)
        if due(pl_module.images_seen, pl_module.images_per_step, self.settings.every_images):
            self.write(trainer, pl_module)

    def write(self, trainer: L.Trainer, module: AdversarialModule) -> None:
        """Draw and save the grid as it is now; rank 0 only does it."""
        if not trainer.is_global_zero:
            return
        self.numbers.clock.pause()
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        points = is_points(data.image_shape)
        rows, columns = (POINTS, 1) if points else (self.settings.rows, self.settings.columns)
        classes = data.num_classes if "label" in module.needs else 0
        images = draw(module, grid_batch(module, self.settings.seed, rows, columns, classes))
        sheet = grid(images, columns)
        save(sheet, self.run.picture(module.images_seen))
        show_everywhere(trainer.loggers, "samples", sheet, module.images_seen)
        self.numbers.clock.go()
