"""How far, how fast, how long still, the losses and the last score: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

import lightning as L
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from lit_gan.callbacks.numbers import Numbers
from lit_gan.module import AdversarialModule

LINE_EVERY = 15.0  # seconds between two lines where there is no terminal
REFRESH_EVERY = 0.5  # seconds between two updates of the bar


class KimgProgress(L.Callback):
    """Progress in thousands of images shown to the discriminator; reads what is there and waits for nothing."""

    def __init__(self, numbers: Numbers, budget: int) -> None:
        self.numbers = numbers
        self.budget = budget
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._shown_at = 0.0
        self._start = (0, 0.0)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, AdversarialModule)
        self._start = (pl_module.images_seen, self.numbers.clock.now())
        self._shown_at = time.monotonic()
        if trainer.is_global_zero and sys.stderr.isatty():
            self._bar = Progress(
                BarColumn(24),
                TextColumn("{task.description}"),
                console=Console(stderr=True),
                refresh_per_second=2,
            )
            self._task = self._bar.add_task("", total=self.budget)
            self._bar.start()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if not trainer.is_global_zero or now - self._shown_at < (REFRESH_EVERY if self._bar else LINE_EVERY):
            return
        assert isinstance(pl_module, AdversarialModule)
        self._shown_at = now
        self._show(pl_module.images_seen)

    def _show(self, images_seen: int) -> None:
        text = self.line(images_seen)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=images_seen, description=text)
        else:
            print(text, file=sys.stderr, flush=True)

    def line(self, images_seen: int) -> str:
        """`38.4/150 kimg · 1,745 img/s · 1:04 left · d 0.69 · g 1.20 · fid 3.41`."""
        speed = (images_seen - self._start[0]) / max(self.numbers.clock.now() - self._start[1], 1e-9)
        left = round((self.budget - images_seen) / speed) if speed > 0 else 0
        parts = [
            f"{images_seen / 1000:.1f}/{self.budget / 1000:g} kimg",
            f"{speed:,.0f} img/s",
            f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left"
            if left >= 3600
            else f"{left // 60}:{left % 60:02} left",
        ]
        names = {"d": "d/adversarial", "g": "g/adversarial", "fid": "val/fid"}
        latest = self.numbers.latest
        parts += [f"{short} {latest[name]:.3g}" for short, name in names.items() if name in latest]
        return " · ".join(parts)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, AdversarialModule)
        if self._bar is not None:
            self._show(pl_module.images_seen)
        self._stop()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
