"""The grid of samples, from the same latents every time, as a PNG and in every logger; at the end a table of them too."""

from __future__ import annotations

from typing import Any

import lightning as L
from torch import Tensor

from lit_gan.callbacks.clock import due
from lit_gan.callbacks.numbers import Numbers
from lit_gan.loggers import show_everywhere, tabulate_everywhere
from lit_gan.module import AdversarialModule, Batch
from lit_gan.pictures import draw, grid, grid_batch, is_points, picture, save, side_by_side
from lit_gan.run import RunFolder
from lit_gan.sampling import sampling_batch
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
        if trainer.is_global_zero:
            self.numbers.clock.pause()
            self._show(trainer, module, *self._draw(trainer, module))
            self.numbers.clock.go()

    def write_last(self, trainer: L.Trainer, module: AdversarialModule) -> None:
        """As `write`, and the same samples one by one for loggers that have tables."""
        if trainer.is_global_zero:
            self.numbers.clock.pause()
            batch, images = self._draw(trainer, module)
            self._show(trainer, module, batch, images)
            if not is_points(tuple(images.shape[1:])):
                self._tabulate(trainer, module, batch, images)
            self.numbers.clock.go()

    def _draw(self, trainer: L.Trainer, module: AdversarialModule) -> tuple[Batch, Tensor]:
        """The latents and labels, or the sources, of the grid, and the samples [N, C, H, W] of them."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if module.sources is not None:  # the same ones every time
            wanted = self.settings.rows * self._columns(module)
            batch = sampling_batch(module, self.settings.seed, range(min(wanted, len(module.sources))))
            return batch, draw(module, batch)
        points = is_points(data.image_shape)
        rows, columns = (POINTS, 1) if points else (self.settings.rows, self.settings.columns)
        classes = data.num_classes if "label" in module.needs else 0
        batch = grid_batch(module, self.settings.seed, rows, columns, classes)
        return batch, draw(module, batch)

    def _columns(self, module: AdversarialModule) -> int:
        """Samples in a row: a translation stands beside its source, and its style or the image that it should be."""
        beside = 1 if module.sources is None else 2 + (module.takes_style or module.sources.paired)
        return max(self.settings.columns // beside, 1)

    def _show(self, trainer: L.Trainer, module: AdversarialModule, batch: Batch, images: Tensor) -> None:
        columns = self._columns(module)
        if module.sources is None:
            sheet = grid(images, columns)
        else:
            parts = [batch["source"].cpu(), images]
            if module.takes_style:
                parts.append(batch["style"].cpu())
            elif module.sources.paired:
                parts.append(module.sources.images_at(batch["index"].tolist()))
            sheet = side_by_side(parts, columns)
        save(sheet, self.run.picture(module.images_seen))
        show_everywhere(trainer.loggers, "samples", sheet, module.images_seen)

    def _tabulate(self, trainer: L.Trainer, module: AdversarialModule, batch: Batch, images: Tensor) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        columns = {"number": batch["index"].tolist(), "seed": [self.settings.seed] * len(images)}
        if "label" in batch:
            conditions = module.conditions
            columns["label"] = (
                [conditions.described(label) for label in batch["label"]]
                if conditions is not None
                else [data.class_names[label] for label in batch["label"].tolist()]
            )
        columns["kimg"] = [module.images_seen / 1000] * len(images)
        columns["image"] = [picture(image) for image in images]
        tabulate_everywhere(trainer.loggers, "samples_table", columns, module.images_seen)
