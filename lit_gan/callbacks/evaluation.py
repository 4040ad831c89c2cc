"""Scores during training: taken from the averaged generator, written with their protocol, and the best remembered."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch

from lit_gan.best import best_evaluation
from lit_gan.callbacks.checkpoint import CheckpointWriter, mark_best
from lit_gan.callbacks.clock import due
from lit_gan.callbacks.numbers import Numbers
from lit_gan.callbacks.samples import SampleGrid
from lit_gan.callbacks.signals import Interrupted, StopOnSignal
from lit_gan.errors import UserError
from lit_gan.hardware import describe_hardware
from lit_gan.loggers import summarise
from lit_gan.metrics import Extractor, Score, log_values
from lit_gan.metrics.evaluate import evaluate
from lit_gan.module import AdversarialModule
from lit_gan.run import RunFolder
from lit_gan.settings import Eval


class Evaluation(L.Callback):
    """Evaluates before the first step, every `eval.every_images`, and at the end.

    What is due is a function of the images seen and of what `results.json` holds, so a run that was killed between a
    checkpoint and its evaluation makes the evaluation when it goes on.
    """

    def __init__(
        self,
        run: RunFolder,
        extractor: Extractor | None,
        settings: Eval,
        *,
        reals: int | None,
        budget: int,
        numbers: Numbers,
        writer: CheckpointWriter,
        grid: SampleGrid,
        signals: StopOnSignal,
    ) -> None:
        self.run = run
        self.extractor = extractor
        self.settings = settings
        self.reals = reals
        self.budget = budget
        self.numbers = numbers
        self.writer = writer
        self.grid = grid
        self.signals = signals

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, AdversarialModule)
        seen = pl_module.images_seen
        wanted = self.settings.at_start if seen == 0 else self._due(pl_module)
        missing = seen not in [e["images_seen"] for e in self._evaluations()]
        if wanted and trainer.strategy.broadcast(missing):
            self._evaluate(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, AdversarialModule)
        if not self.signals.agreed and self._due(pl_module):
            self.writer.save(trainer, pl_module)
            self._evaluate(trainer, pl_module)

    def _due(self, module: AdversarialModule) -> bool:
        last = module.images_seen >= self.budget > module.images_seen - module.images_per_step
        return last or due(module.images_seen, module.images_per_step, self.settings.every_images)

    def _evaluations(self) -> list[dict[str, Any]]:
        return [e for e in self.run.read_results()["evaluations"] if e["source"] == "training"]

    def _evaluate(self, trainer: L.Trainer, module: AdversarialModule) -> None:
        self.grid.write(trainer, module)
        if self.extractor is None:  # eval.metrics=[]: the grid alone
            return
        self.numbers.clock.pause()
        started = time.perf_counter()
        try:
            scores = evaluate(
                module,
                trainer.datamodule,  # type: ignore[attr-defined]
                metrics=self.settings.metrics,
                extractor=self.extractor,
                fakes=self.settings.images,
                seed=self.settings.seed,
                batch_size=self.settings.batch_size,
                reals=self.reals,
                rank=trainer.global_rank,
                world=trainer.world_size,
                should_stop=self.signals.check if trainer.world_size == 1 else None,
            )
        except Interrupted:
            trainer.should_stop = True
            return
        except torch.OutOfMemoryError:
            raise UserError(
                f"an evaluation does not fit into memory with eval.batch_size={self.settings.batch_size}: use a smaller one"
            ) from None
        finally:
            self.numbers.clock.go()
        self.numbers.publish(
            trainer, {f"val/{k}": v for k, v in log_values(scores).items()}, module.images_seen
        )
        if trainer.is_global_zero:
            self._write(trainer, module, scores, time.perf_counter() - started)

    def _write(
        self, trainer: L.Trainer, module: AdversarialModule, scores: Mapping[str, Score], seconds: float
    ) -> None:
        record = evaluation_record(scores, module.images_seen, "training", seconds)
        record["training_seconds"] = round(self.numbers.clock.now(), 1)
        results = self.run.record(record, hardware=describe_hardware(module.device, trainer.world_size))
        best = best_evaluation(results["evaluations"])
        if best is None:
            return
        images, metric, value = best
        if images == module.images_seen:
            mark_best(self.run, images)
        # each time: a run that goes on offline writes a file of its own, which must not lack it
        summarise(trainer.loggers, {f"best/{metric}": value, "best/kimg": images / 1000})


def evaluation_record(
    scores: Mapping[str, Score], images_seen: int, source: str, seconds: float
) -> dict[str, Any]:
    """One entry of `results.json`; `source` says whether training made it or `lit-gan eval`, and of which file."""
    return {
        "images_seen": images_seen,
        "source": source,
        "scores": {name: score.to_dict() for name, score in scores.items()},
        "seconds": round(seconds, 2),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
