"""SIGTERM and SIGINT end a run after a checkpoint; every rank stops after the same step."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

import lightning as L
import torch
import torch.distributed as dist

SIGNALS = (signal.SIGTERM, signal.SIGINT)
AGREE_EVERY = 10  # steps between two questions to the other ranks whether one of them was told to stop


class Interrupted(Exception):  # noqa: N818  # not an error
    """Raised inside an evaluation when a signal came, to leave it early."""


class StopOnSignal(L.Callback):
    """Sets a flag in the handler, and stops at the end of a step; a second Ctrl-C ends the process at once.

    `received` is what this process was told, `agreed` what all ranks know since the same step: only the latter may decide
    about anything that ranks do together. A second SIGTERM is not a wish to hurry: launchers forward what the scheduler
    sends as well.

    Lightning's own handler broadcasts from within the handler, which hangs when one rank alone is signalled, and its
    training loop asks the other ranks in every step (Lightning 2.6): both are replaced while this is active.
    """

    def __init__(self) -> None:
        self.received: int = 0
        self.agreed: int = 0
        self.write_now = False  # a rank's clock says that a checkpoint is due
        self.clock_says: Callable[[], bool] = lambda: False
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Take over the signals; in a thread other than the main one, signals stay as they are."""
        try:
            for number in SIGNALS:
                before = signal.signal(number, self._handle)
                self._before.setdefault(number, before)
        except ValueError:
            self._before.clear()

    def restore(self) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def check(self) -> None:
        """Raise `Interrupted` if a signal came; for long work between two steps of a single process."""
        if self.received:
            raise Interrupted

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == self.received == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received = self.received or number

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.install()  # again: Lightning has put its own in front
        if trainer.world_size > 1:
            trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _nothing  # type: ignore[method-assign]

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        asks = trainer.global_step % AGREE_EVERY == 0
        if trainer.world_size == 1:
            self.agreed, self.write_now = self.received, asks and self.clock_says()
        elif asks:  # one collective for both questions
            flags = torch.tensor([self.received, int(self.clock_says())], device=pl_module.device)
            dist.all_reduce(flags, op=dist.ReduceOp.MAX)
            self.agreed, write_now = flags.tolist()
            self.write_now = bool(write_now)
        else:
            self.write_now = False
        if self.agreed:
            trainer.should_stop = True


def _nothing() -> None:
    """In place of a collective in every step."""
