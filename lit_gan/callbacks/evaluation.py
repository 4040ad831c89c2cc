"""Scores during training: taken from the averaged generator, written with their protocol, and the best remembered."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import torch

from lit_gan.best import best_evaluation
from lit_gan.callbacks.checkpoint import CheckpointWriter, mark_best
from lit_gan.callbacks.clock import due
from lit_gan.callbacks.numbers import Numbers
from lit_gan.callbacks.samples import SampleGrid
from lit_gan.callbacks.signals import Interrupted, StopOnSignal
from lit_gan.data.base import ImageData
from lit_gan.errors import UserError
from lit_gan.hardware import describe_hardware
from lit_gan.loggers import show_everywhere, summarise
from lit_gan.metrics import Extractor, PerceptualNetwork, Score, log_values
from lit_gan.metrics.checks import metric_class, network_of
from lit_gan.metrics.evaluate import evaluate
from lit_gan.metrics.protocol import Scores
from lit_gan.module import AdversarialModule
from lit_gan.pictures import save, suspects
from lit_gan.run import RunFolder
from lit_gan.settings import Eval

CHEAP_ERRORS = 512  # dimensions up to which a standard error costs nothing to speak of; beyond, only the last score has it
STEPS = tuple(
    digit * 10**power for power in range(1, 10) for digit in (1, 2, 5)
)  # numbers of fakes to choose among
FEWEST = 200  # fakes, however little time an evaluation may take


class Evaluation(L.Callback):
    """Evaluates before the first step, every `eval.every_images`, and at the end.

    What is due is a function of the images seen and of what `results.json` holds, so a run that was killed between a
    checkpoint and its evaluation makes the evaluation when it goes on.

    The evaluations between the first and the last take at most `eval.max_share` of the training time: where all fakes
    would take longer, they use fewer, always the same number. The last one is then made twice, with all fakes as "final",
    and with as many as those before, among which the best is chosen.
    """

    def __init__(
        self,
        run: RunFolder,
        extractor: Extractor | None,
        settings: Eval,
        *,
        lpips: PerceptualNetwork | None = None,
        reals: int | None,
        budget: int,
        numbers: Numbers,
        writer: CheckpointWriter,
        grid: SampleGrid,
        signals: StopOnSignal,
    ) -> None:
        self.run = run
        self.extractor, self.lpips = extractor, lpips
        self.settings = settings
        self.reals = reals
        self.budget = budget
        self.numbers = numbers
        self.writer = writer
        self.grid = grid
        self.signals = signals
        self._between: int | None = None  # fakes of the evaluations on the way, once that is decided
        self._cost: float | None = None  # seconds for each fake, of the newest evaluation
        self._started = (0, 0.0)  # images seen and seconds of training when this sitting began

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, AdversarialModule)
        seen = pl_module.images_seen
        self._started = (seen, self.numbers.clock.now())
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
        if module.images_seen >= self.budget:
            self.grid.write_last(trainer, module)
        else:
            self.grid.write(trainer, module)
        if not self.settings.metrics:  # the grid alone
            return
        try:
            self._score_all(trainer, module)
        except Interrupted:  # also in the measure of what an evaluation costs
            trainer.should_stop = True

    def _score_all(self, trainer: L.Trainer, module: AdversarialModule) -> None:
        full = self.settings.images
        last = module.images_seen >= self.budget
        fakes = full if module.images_seen == 0 else self._fakes_on_the_way(trainer, module, last)
        if last and fakes < full:
            self._score(trainer, module, full, "final")
        # after the full one: as long as it is missing, a run that goes on makes both
        self._score(trainer, module, fakes, "training")

    def _fakes_on_the_way(self, trainer: L.Trainer, module: AdversarialModule, last: bool) -> int:
        """How many fakes all evaluations between the first and the last use, chosen once in the life of a run."""
        if self._between is None:
            made = [e for e in self._evaluations() if 0 < e["images_seen"] < self.budget]
            self._between = trainer.strategy.broadcast(next(map(fakes_of, made), None))
        if self._between is not None or last:
            return self._between or self.settings.images
        if self._cost is None:  # no evaluation before the first step, in this sitting
            few = self._fewest(trainer)
            self._cost = self._measure(trainer, module, few).seconds / few
        seconds = self.numbers.clock.now() - self._started[1]
        speed = (module.images_seen - self._started[0]) / max(seconds, 1e-9)
        assert self.settings.every_images is not None
        training = self.settings.every_images / max(speed, 1e-9)
        allowed = affordable(
            self.settings.images, self._cost, self.settings.max_share * training, self._fewest(trainer)
        )
        self._between = trainer.strategy.broadcast(allowed)
        if self._between < self.settings.images and trainer.is_global_zero:
            share = self._cost * self.settings.images / training
            print(
                f"eval.max_share={self.settings.max_share:g}: evaluations on the way use {self._between:,} fakes, since "
                f"{self.settings.images:,} would take {share:.0%} of the training time; the last one uses all"
            )
        return self._between

    def _fewest(self, trainer: L.Trainer) -> int:
        """`FEWEST`, or as many as all metrics need to give a number of these data."""
        data, full = _scored(trainer), self.settings.images
        kinds = [metric_class(name) for name in self.settings.metrics]
        made_with = [(kind, network_of(kind, self.extractor, self.lpips)) for kind in kinds]
        enough = (
            n
            for n in STEPS
            if n >= FEWEST and not any(kind.lacks(data, network, n) for kind, network in made_with)
        )
        return min(full, next(enough, full))

    def _score(self, trainer: L.Trainer, module: AdversarialModule, fakes: int, source: str) -> None:
        """Evaluate with so many fakes and write the scores down."""
        started = time.perf_counter()
        scores = self._measure(trainer, module, fakes)
        self._cost = scores.seconds / fakes
        prefix = "val" if source == "training" else source
        self.numbers.publish(
            trainer, {f"{prefix}/{k}": v for k, v in log_values(scores).items()}, module.images_seen
        )
        if trainer.is_global_zero:
            self._write(trainer, module, scores, time.perf_counter() - started, source)
            if module.images_seen >= self.budget and fakes == self.settings.images:
                self._show_suspects(trainer, module, scores)

    def _show_suspects(self, trainer: L.Trainer, module: AdversarialModule, scores: Scores) -> None:
        """The fakes nearest to reals, at the end: early ones are like nothing."""
        self.numbers.clock.pause()
        sheet = suspects(module, _scored(trainer), scores, self.settings.seed)
        if sheet is not None:
            save(sheet, self.run.picture(module.images_seen, "neighbours"))
            show_everywhere(trainer.loggers, "neighbours", sheet, module.images_seen)
        self.numbers.clock.go()

    def _measure(self, trainer: L.Trainer, module: AdversarialModule, fakes: int) -> Scores:
        """The scores of so many fakes, while the clock of training stands; raises `Interrupted` after a signal."""
        self.numbers.clock.pause()
        try:
            return evaluate(
                module,
                _scored(trainer),
                metrics=self.settings.metrics,
                extractor=self.extractor,
                lpips=self.lpips,
                fakes=fakes,
                seed=self.settings.seed,
                batch_size=self.settings.batch_size,
                reals=self.reals,
                rank=trainer.global_rank,
                world=trainer.world_size,
                errors=self._cheap_errors or module.images_seen >= self.budget,
                should_stop=self.signals.check if trainer.world_size == 1 else None,
            )
        except torch.OutOfMemoryError:
            raise UserError(
                f"an evaluation does not fit into memory with eval.batch_size={self.settings.batch_size}: use a smaller one"
            ) from None
        finally:
            self.numbers.clock.go()

    @property
    def _cheap_errors(self) -> bool:
        return self.extractor is None or self.extractor.dim <= CHEAP_ERRORS

    def _write(
        self,
        trainer: L.Trainer,
        module: AdversarialModule,
        scores: Mapping[str, Score],
        seconds: float,
        source: str,
    ) -> None:
        record = evaluation_record(
            scores,
            module.images_seen,
            source,
            seconds,
            describe_hardware(module.device, trainer.world_size),
        )
        trained = self.numbers.clock.now()
        record["training_seconds"] = round(trained, 1)
        if module.images_seen and trained:
            record["images_per_second"] = round(module.images_seen / trained, 2)
        results = self.run.record(record, parameters=parameter_counts(module))
        best = best_evaluation(results["evaluations"])
        if source != "training" or best is None:
            return
        images, metric, value = best
        if images == module.images_seen:
            mark_best(self.run, images)
        # each time: a run that goes on offline writes a file of its own, which must not lack it
        summarise(trainer.loggers, {f"best/{metric}": value, "best/kimg": images / 1000})


def _scored(trainer: L.Trainer) -> ImageData:
    """What scores read of the run's data; Lightning attaches them without a type."""
    data: ImageData = trainer.datamodule  # type: ignore[attr-defined]
    return data.held_out


def affordable(full: int, cost: float, seconds: float, fewest: int = FEWEST) -> int:
    """The fakes that `seconds` are enough for at `cost` seconds each: `full`, or 1, 2 or 5 times a power of ten.

    Never less than `fewest`: a score of a handful of images would say nothing.
    """
    wanted = full if cost <= 0 else min(full, int(seconds / cost))
    if wanted >= full:
        return full
    return min(full, max(fewest, next((step for step in reversed(STEPS) if step <= wanted), 0)))


def fakes_of(evaluation: Mapping[str, Any]) -> int:
    """How many fakes the scores of an evaluation are of."""
    return int(next(iter(evaluation["scores"].values()))["protocol"]["fakes"])


def evaluation_record(
    scores: Mapping[str, Score],
    images_seen: int,
    source: str,
    seconds: float,
    hardware: Mapping[str, Any],
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """One entry of `results.json`; `source` says whether training made it or `lit-gan eval`, and of which file.

    `notes` say which scores were asked for and left out.
    """
    record = {
        "images_seen": images_seen,
        "source": source,
        "scores": {name: score.to_dict() for name, score in scores.items()},
        "seconds": round(seconds, 2),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "hardware": dict(hardware),
    }
    return {**record, "notes": list(notes)} if notes else record


def parameter_counts(module: AdversarialModule) -> dict[str, int]:
    """What `results.json` says of the size of the players; the average of the generator is no further one."""
    players = {"generator": module.generator, "discriminator": module.discriminator}
    return {name: sum(p.numel() for p in player.parameters()) for name, player in players.items()}
