"""Whether Lightning's own backward and optimiser step are needed: in empty hooks they cost half a millisecond a step."""

from __future__ import annotations

import lightning as L
from lightning.pytorch.utilities.model_helpers import is_overridden

from lit_gan.strategy import FlatReduceStrategy

BACKWARD_HOOKS = ("on_before_backward", "on_after_backward")


def lightning_step_is_needed(module: L.LightningModule, spine: type[L.LightningModule]) -> bool:
    """Whether a callback, or `module` beyond what `spine` does, has a say in backward passes and optimiser steps.

    Needed too under a loss scale, and where another strategy than ours averages the gradients of several ranks.
    """
    trainer = module.trainer
    listeners: list[tuple[object, tuple[str, ...]]] = [(module, (*BACKWARD_HOOKS, "backward"))]
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    listeners += [(callback, (*BACKWARD_HOOKS, "on_before_optimizer_step")) for callback in callbacks]
    heard = any(is_overridden(hook, listener) for listener, hooks in listeners for hook in hooks)
    heard = heard or is_overridden("on_before_optimizer_step", module, spine)
    scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
    ours = trainer.world_size == 1 or isinstance(trainer.strategy, FlatReduceStrategy)
    return heard or scaled or not ours
