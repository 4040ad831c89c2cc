"""When something is due, and how fast training goes: both in images seen."""

from __future__ import annotations

import time
from typing import Any

import lightning as L


def due(images_seen: int, images_per_step: int, every: int | None) -> bool:
    """Whether the step that ended at `images_seen` passed a multiple of `every`: no state, so resuming needs none."""
    return every is not None and images_seen // every > (images_seen - images_per_step) // every


class Clock(L.Callback):
    """Seconds of training, without what is measured or written in between; goes on over resumes."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since: float | None = None

    def now(self) -> float:
        """Seconds of training so far, over all sittings."""
        return self.seconds + (0.0 if self._since is None else time.perf_counter() - self._since)

    def pause(self) -> None:
        self.seconds, self._since = self.now(), None

    def go(self) -> None:
        self._since = time.perf_counter()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.go()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.pause()

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.now()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds = float(state_dict["seconds"])
