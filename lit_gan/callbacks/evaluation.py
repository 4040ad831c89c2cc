"""Scores during training: taken from the averaged generator, written with their protocol, and the best remembered."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch

from lit_gan.callbacks.checkpoint import CheckpointWriter, mark_best
from lit_gan.callbacks.clock import due
from lit_gan.callbacks.numbers import Numbers
from lit_gan.callbacks.samples import SampleGrid
from lit_gan.callbacks.signals import Interrupted, StopOnSignal
from lit_gan.errors import UserError
from lit_gan.hardware import describe_hardware
from lit_gan.metrics import Extractor, Score, log_values
from lit_gan.metrics.evaluate import evaluate
from lit_gan.module import AdversarialModule
from lit_gan.run import RunFolder
from lit_gan.settings import Eval

LOWER_IS_BETTER = ("fid", "kid")  # the first that is measured decides which checkpoint is the best


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
        record = evaluation_record(
            scores,
            module.images_seen,
            "training",
            seconds,
            describe_hardware(module.device, trainer.world_size),
        )
        trained = self.numbers.clock.now()
        record["training_seconds"] = round(trained, 1)
        if module.images_seen and trained:
            record["images_per_second"] = round(module.images_seen / trained, 2)
        results = self.run.record(record, parameters=parameter_counts(module))
        best = best_evaluation(results["evaluations"])
        if best is not None and best[0] == module.images_seen:
            mark_best(self.run, module.images_seen)


def evaluation_record(
    scores: Mapping[str, Score], images_seen: int, source: str, seconds: float, hardware: Mapping[str, Any]
) -> dict[str, Any]:
    """One entry of `results.json`; `source` says whether training made it or `lit-gan eval`, and of which file."""
    return {
        "images_seen": images_seen,
        "source": source,
        "scores": {name: score.to_dict() for name, score in scores.items()},
        "seconds": round(seconds, 2),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "hardware": dict(hardware),
    }


def parameter_counts(module: AdversarialModule) -> dict[str, int]:
    """What `results.json` says of the size of the players; the average of the generator is no further one."""
    players = {"generator": module.generator, "discriminator": module.discriminator}
    return {name: sum(p.numel() for p in player.parameters()) for name, player in players.items()}


def best_evaluation(evaluations: list[dict[str, Any]]) -> tuple[int, str, float] | None:
    """(images seen, metric, value) of the best evaluation made in training, by the first of `LOWER_IS_BETTER` there is.

    Only scores of the newest one's protocol count: a run that went on with other settings has others too.
    """
    made = [e for e in evaluations if e["source"] == "training" and e["images_seen"] > 0]
    for metric in LOWER_IS_BETTER:
        found = [(e["images_seen"], e["scores"][metric]) for e in made if metric in e["scores"]]
        if found:
            protocol = found[-1][1]["protocol"]
            value, images = min((s["value"], seen) for seen, s in found if s["protocol"] == protocol)
            return images, metric, value
    return None
