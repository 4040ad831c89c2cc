"""The alternation of the two players, written once.

Freezing, gradient synchronisation, accumulation, clipping, averaging, counting and checkpoints happen here, because that
is where silent bugs live. One trainer step is one generator update; progress is counted in images shown to the
discriminator. A variant derives from `lit_gan.module.AdversarialModule`. See docs/architecture.md.
"""

from __future__ import annotations

import dataclasses
import inspect
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, cast

import lightning as L
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer

from lit_gan.augment import Augmenter
from lit_gan.ema import EMA, ramped_half_life
from lit_gan.errors import UserError
from lit_gan.lightning_step import lightning_step_is_needed
from lit_gan.monitor import Monitor
from lit_gan.optimisers import follow_schedule
from lit_gan.players import Batch, Losses, Player, clip, frozen, gradients_of, parameters_of, split, total
from lit_gan.power_ema import gamma_of, weight_of_new
from lit_gan.regularise import Regulariser
from lit_gan.seeding import seed_step
from lit_gan.settings import Optim
from lit_gan.strategy import FlatReduceStrategy, average_gradients


class Alternation(L.LightningModule):
    """Two players that take turns: a trainer step, its counts, and what of it a checkpoint holds."""

    real_key: ClassVar[str] = "image"  # batch key the fakes are judged against
    optim_defaults: ClassVar[Optim] = Optim()
    fresh_reals_for_generator: ClassVar[bool] = (
        False  # whether the generator step reads a real batch of its own
    )

    generator: nn.Module
    discriminator: nn.Module

    def __init__(self, optim: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.optim = dataclasses.replace(self.optim_defaults, **(optim or {}))
        self.needs: tuple[str, ...] = (self.real_key,)
        self.ema: EMA | None = None
        self.ema_wide: EMA | None = None  # twice as wide, for averages put together after training
        self.augment: Augmenter | None = None
        self.regularise: Regulariser | None = None
        self.seed = 0  # of the random stream of training; set by the run
        self.run_record: dict[
            str, Any
        ] = {}  # what a checkpoint says about its run: configuration, data, version
        self.images_seen = 0  # plain ints: a tensor would force a device sync in every step
        self.d_updates = 0
        self.images_per_step = 0  # by the discriminator, over all ranks; set by the run
        self.monitor = Monitor()
        self._player: Player = "d"  # who steps, for Lightning's hook
        self._direct = False  # without Lightning's backward and optimiser step; decided when a fit starts

    # -- what takes turns -------------------------------------------------------------------------------------------

    @abstractmethod
    def losses(self, player: Player, batch: Batch) -> Losses:
        """All terms of `player`'s loss, weighted."""

    @abstractmethod
    def fakes(self, batch: Batch) -> Tensor:
        """Fakes for training, one for each real of the batch, with their graph."""

    def schedule(self, player: Player, optimizer: Optimizer) -> None:
        """Set what depends on the images seen, before every step of `player`; a variant may extend it."""
        follow_schedule(optimizer, self.optim, self.images_seen)

    def after_step(self, player: Player) -> None:
        """Called after every step of `player`, where a variant has something to do to its weights."""

    def discriminator_turn(self) -> bool:
        """Whether the discriminator learns from the images at hand; a function of `images_seen`. They count in any case."""
        return True

    def generator_turn(self) -> bool:
        """Whether this trainer step, its discriminator updates done, moves the generator; a function of `d_updates`."""
        return True

    def half_life(self) -> float:
        """The EMA's half-life now, in images; 0, a copy, before it starts."""
        if self.images_seen <= self.optim.ema_start:
            return 0.0
        return ramped_half_life(self.optim.ema_half_life, self.images_seen, self.optim.ema_ramp)

    # -- a step -----------------------------------------------------------------------------------------------------

    @property
    def draws_per_step(self) -> int:
        """Global real batches that one trainer step reads."""
        return self.optim.d_steps_per_g_step + int(self.fresh_reals_for_generator)

    def on_fit_start(self) -> None:
        self.check_needs()
        self._direct = not lightning_step_is_needed(self, Alternation)

    def check_needs(self, keys: Iterable[str] | None = None) -> None:
        """Raise a `UserError` if the data do not give a batch key that the variant reads."""
        if keys is None:
            keys = getattr(getattr(self._trainer, "datamodule", None), "keys", self.needs)
        have = tuple(keys)
        missing = [key for key in self.needs if key not in have]
        if missing:
            raise UserError(
                f"{type(self).__name__} needs batch keys {self.needs}, the data give {have}: "
                + (
                    "use labelled data, or model.conditional=false"
                    if "label" in missing
                    else "use other data"
                )
            )

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """`d_steps_per_g_step` discriminator updates, then one generator update, each on real images of its own chunk."""
        opt_d, opt_g = cast("tuple[LightningOptimizer, LightningOptimizer]", self.optimizers())
        world = self.trainer.world_size
        seed_step(self.seed, self.images_seen, self.global_rank, self.device)
        chunks = split(batch, self.draws_per_step)
        for chunk in chunks[: self.optim.d_steps_per_g_step]:
            images = len(chunk[self.real_key]) * world
            learns = self.discriminator_turn()
            if learns:
                self._update("d", opt_d, opt_g, chunk)
            self.d_updates += 1
            self.images_seen += images
            if self.regularise is not None and learns:
                self.regularise.advance()
            if self.augment is not None and learns:
                numbers = self.augment.advance(images, images_seen=self.images_seen, device=self.device)
                self.monitor.add("augment", numbers, images_seen=self.images_seen)
        if self.generator_turn():
            self._update("g", opt_g, opt_d, chunks[-1])
        else:  # the trainer counts its own steps by the generator's
            opt_g._on_before_step()
            opt_g._on_after_step()
        if world > 1:
            cast("FlatReduceStrategy", self.trainer.strategy).reduce_buffers(self)
        if self.ema is not None:
            images = len(chunks[0][self.real_key]) * world * self.optim.d_steps_per_g_step
            self._average(images)

    def _update(
        self, player: Player, optimizer: LightningOptimizer, other: LightningOptimizer, chunk: Batch
    ) -> None:
        parts = self.optim.accumulate
        with frozen(parameters_of(other)):
            for parameter in parameters_of(optimizer):
                parameter.grad = None
            for micro in split(chunk, parts):
                if player == "d" and self.augment is not None:
                    micro = self.augment.deceive(
                        micro, self.real_key, self.fakes, images_seen=self.images_seen
                    )
                terms = self.losses(player, micro)
                loss = total(terms) if parts == 1 else total(terms) / parts
                if self._direct:
                    torch.autograd.backward(loss)
                else:
                    self.manual_backward(loss)
                self.monitor.add(player, terms, images_seen=self.images_seen)
        self.schedule(player, optimizer.optimizer)
        self._step(player, optimizer)
        self.after_step(player)

    def _average(self, images: int) -> None:
        """Move the averages after `images` more images."""
        assert self.ema is not None
        width = self.optim.ema_width
        if self.ema_wide is None or width is None:
            self.ema.update(self.generator, images=images, half_life=self.half_life())
            return
        for ema, its in ((self.ema, width), (self.ema_wide, 2 * width)):
            ema.move(self.generator, weight_of_new(self.images_seen, images, gamma_of(its)))

    def _step(self, player: Player, optimizer: LightningOptimizer) -> None:
        """Average over the ranks, measure and clip, step; Lightning counts the generator's step only."""
        raw, strategy = optimizer.optimizer, self.trainer.strategy
        if self._direct:
            if isinstance(strategy, FlatReduceStrategy):
                average_gradients(raw, strategy.world_size)
            self._measure_and_clip(player, raw)
            raw.step()
            if player == "g":
                optimizer._on_before_step()
                optimizer._on_after_step()
            return
        self._player = player
        if player == "g":
            optimizer.step()
        else:  # uncounted: Lightning's step is then a generator update, whatever d_steps_per_g_step is
            strategy.optimizer_step(raw, _no_closure)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Called by Lightning's optimiser step: the gradient is averaged over ranks and unscaled by now."""
        self._measure_and_clip(self._player, optimizer)

    def _measure_and_clip(self, player: Player, optimizer: Optimizer) -> None:
        gradients = gradients_of(optimizer)
        if not gradients:
            return
        norm = clip(gradients, self.optim.clip_norm)
        self.monitor.add(player, {"gradient_norm": norm}, images_seen=self.images_seen)

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["lit_gan"] = {
            **self.run_record,
            "variant": type(self).__name__,
            "images_seen": self.images_seen,
            "d_updates": self.d_updates,
            "augment": self.augment.state() if self.augment is not None else {},
            "regularise": self.regularise.state() if self.regularise is not None else {},
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        record = checkpoint.get("lit_gan", {})
        if record.get("variant") != type(self).__name__:
            raise UserError(
                f"the checkpoint is of {record.get('variant')}, not of {type(self).__name__}: give its run"
            )
        self.images_seen = record["images_seen"]
        self.d_updates = record["d_updates"]
        if self.augment is not None:
            self.augment.restore(record.get("augment", {}))
        if self.regularise is not None:
            self.regularise.restore(record.get("regularise", {}))


# Lightning inspects the signature in every step; kept here, it need not be taken apart each time.
vars(Alternation.training_step)["__signature__"] = inspect.signature(Alternation.training_step)


def _no_closure() -> None:
    """The gradients are there already."""
