"""Losses, gradient norms and speed, flushed to every logger every few steps: nothing is logged in the step itself."""

from __future__ import annotations

from typing import Any

import lightning as L

from lit_gan.callbacks.clock import Clock
from lit_gan.loggers import log_everywhere
from lit_gan.module import AdversarialModule


class Numbers(L.Callback):
    """Reads the module's monitor every `every` steps; `latest` keeps the newest value of everything logged."""

    def __init__(self, clock: Clock, every: int) -> None:
        self.clock = clock
        self.every = every
        self.latest: dict[str, float] = {}
        self._mark = (0, 0.0)  # images seen and seconds at the last flush

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, AdversarialModule)
        self._mark = (pl_module.images_seen, self.clock.now())

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every == 0:
            self.flush(trainer, pl_module)

    def flush(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the means since the last flush; raises `NonFiniteError`. All ranks call it after the same step."""
        assert isinstance(pl_module, AdversarialModule)
        means = pl_module.monitor.flush()
        images, seconds = pl_module.images_seen, self.clock.now()
        if not means or images == self._mark[0]:
            return
        means["speed/images_per_second"] = (images - self._mark[0]) / max(seconds - self._mark[1], 1e-9)
        means["speed/hours"] = seconds / 3600
        means["optim/lr"] = trainer.optimizers[1].param_groups[0]["lr"]
        self._mark = (images, seconds)
        self.publish(trainer, means, images)

    def publish(self, trainer: L.Trainer, numbers: dict[str, float], images_seen: int) -> None:
        """Log `numbers` at `images_seen` and remember them for the progress bar."""
        self.latest.update(numbers)
        if trainer.is_global_zero:
            log_everywhere(trainer.loggers, numbers, images_seen)
