"""Checkpoints that are whole or not there: written aside, brought to the disk, moved into place."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import lightning as L

from lit_gan.callbacks.clock import due
from lit_gan.callbacks.numbers import Numbers
from lit_gan.callbacks.signals import StopOnSignal
from lit_gan.checkpoints import defect, load
from lit_gan.module import AdversarialModule
from lit_gan.run import RunFolder, replace
from lit_gan.strategy import assert_ranks_equal


class CheckpointWriter(L.Callback):
    """Writes every `every_images` and every `every_minutes`, and keeps `last`, `best` and the newest `keep`."""

    def __init__(
        self,
        run: RunFolder,
        numbers: Numbers,
        signals: StopOnSignal,
        *,
        every_images: int,
        every_minutes: float | None,
        keep: int,
    ) -> None:
        self.run = run
        self.numbers = numbers
        self.signals = signals
        signals.clock_says = self._time_is_up
        self.every_images = every_images
        self.every_minutes = every_minutes
        self.keep = max(keep, 1)
        self._written_at = time.monotonic()
        self._saved_images = -1

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, AdversarialModule)
        by_images = due(pl_module.images_seen, pl_module.images_per_step, self.every_images)
        if by_images or self.signals.write_now:
            self.save(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.save(trainer, pl_module)

    def save(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the state as it is; every rank calls it after the same step. A state that is not finite is not written."""
        assert isinstance(pl_module, AdversarialModule)
        if pl_module.images_seen == self._saved_images:
            return
        self.numbers.flush(trainer, pl_module)
        assert_ranks_equal(pl_module)
        self.numbers.clock.pause()
        path = self.run.checkpoints / f"images-{pl_module.images_seen:012d}.ckpt"
        if trainer.is_global_zero:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace(path, trainer.save_checkpoint)
            _point(self.run.checkpoints / "last.ckpt", path)
            for old in sorted(self.run.checkpoints.glob("images-*.ckpt"))[: -self.keep]:
                old.unlink(missing_ok=True)
        else:  # save_checkpoint is collective; only rank 0 writes
            trainer.save_checkpoint(path)
        self._saved_images = pl_module.images_seen
        self._written_at = time.monotonic()
        self.numbers.clock.go()

    def _time_is_up(self) -> bool:
        return (
            self.every_minutes is not None and time.monotonic() - self._written_at > 60 * self.every_minutes
        )


def mark_best(run: RunFolder, images_seen: int) -> None:
    """Let `best` be the checkpoint just written at `images_seen`; rank 0 only."""
    path = run.checkpoints / f"images-{images_seen:012d}.ckpt"
    if path.exists():
        _point(run.checkpoints / "best.ckpt", path)


def set_aside(run: RunFolder, images_seen: int) -> None:
    """Take checkpoints of after `images_seen` out of the way of a run that goes on from there; rank 0 only.

    They are renamed, not removed; were they to stay, they would count as the newest.
    """
    for path in run.checkpoints.glob("images-*.ckpt"):
        if int(path.stem.removeprefix("images-")) > images_seen:
            path.rename(path.with_suffix(".abandoned"))
    for name in ("best.ckpt", "last.ckpt"):
        path = run.checkpoints / name
        if path.exists() and defect(path) is None and load(path)["lit_gan"]["images_seen"] > images_seen:
            path.unlink()


def _point(link: Path, target: Path) -> None:
    """Make `link` the same file as `target` at once; a copy where the file system has no hard links."""

    def make(partial: Path) -> None:
        partial.unlink(missing_ok=True)
        try:
            os.link(target, partial)
        except OSError:
            shutil.copyfile(target, partial)

    replace(link, make)
