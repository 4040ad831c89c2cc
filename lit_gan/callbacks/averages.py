"""Snapshots of the two power-function averages, from which `lit-gan average` makes any other after training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from safetensors.torch import save_file

from lit_gan.callbacks.clock import due
from lit_gan.callbacks.numbers import Numbers
from lit_gan.module import AdversarialModule
from lit_gan.run import RunFolder, replace

PREFIX = "images-"


class AverageSnapshots(L.Callback):
    """Writes `averages/images-<...>.safetensors` every `every` images and at the end; rank 0 only, ranks are equal."""

    def __init__(self, run: RunFolder, numbers: Numbers, every: int) -> None:
        self.run = run
        self.numbers = numbers
        self.every = every
        self._written = -1

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, AdversarialModule)
        if due(pl_module.images_seen, pl_module.images_per_step, self.every):
            self._write(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, AdversarialModule)
        self._write(trainer, pl_module)

    def _write(self, trainer: L.Trainer, module: AdversarialModule) -> None:
        if not trainer.is_global_zero or module.ema is None or module.ema_wide is None:
            return
        if module.images_seen in (0, self._written):
            return
        self.numbers.clock.pause()
        width = module.optim.ema_width
        assert width is not None
        tensors = {
            f"{which}.{name}": value.detach().to("cpu", torch.float32).contiguous()
            for which, ema in (("narrow", module.ema), ("wide", module.ema_wide))
            for name, value in ema.network.named_parameters()
        }
        about = {"images_seen": str(module.images_seen), "width": repr(width)}
        path = self.run.averages / f"{PREFIX}{module.images_seen:012d}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, lambda partial: save_file(tensors, partial, metadata=about))
        self._written = module.images_seen
        self.numbers.clock.go()


def forget_after(run: RunFolder, images_seen: int) -> None:
    """Remove snapshots of after `images_seen`: a run that goes on from there makes its own."""
    for path in run.averages.glob(f"{PREFIX}*.safetensors"):
        if int(path.stem.removeprefix(PREFIX)) > images_seen:
            path.unlink()


def snapshots(run: RunFolder) -> dict[int, Path]:
    """The snapshots of a run by the images seen, the earliest first."""
    found = sorted(run.averages.glob(f"{PREFIX}*.safetensors"))
    return {int(path.stem.removeprefix(PREFIX)): path for path in found}
