"""Optimisers as `optim.*` names them, and what they learn at after so many images."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import Optimizer

from lit_gan import schedules
from lit_gan.settings import Optim


def build_optimizer(
    optim: Optim, parameters: Iterable[nn.Parameter], lr: float, *, lazy_interval: int | None = None
) -> Optimizer:
    """The optimiser that `optim` names, fused where it exists, of those `parameters` that are not frozen.

    With `lazy_interval` k, a penalty taken in every k-th step only, Adam's rate and moments are corrected by k / (k + 1)
    as in Karras et al. 2020, appendix B.
    """
    params = [parameter for parameter in parameters if parameter.requires_grad]
    if optim.name == "adam":
        c = lazy_interval / (lazy_interval + 1) if lazy_interval and lazy_interval > 1 else 1.0
        betas = (optim.beta1**c, optim.beta2**c)
        fused = all(p.is_floating_point() and p.device.type in ("cuda", "cpu") for p in params)
        return torch.optim.Adam(params, lr * c, betas, optim.eps, optim.weight_decay, fused=fused)
    if optim.name == "rmsprop":
        return torch.optim.RMSprop(params, lr, optim.beta2, optim.eps, optim.weight_decay)
    return torch.optim.SGD(params, lr, optim.beta1, weight_decay=optim.weight_decay)


def follow_schedule(optimizer: Optimizer, optim: Optim, images_seen: int) -> None:
    """Give all groups what `optimizer` was built with, the rate times what `optim.lr_schedule` says after `images_seen`.

    From `defaults`, which a loaded state does not touch: new settings of a run that goes on must not hide behind the old.
    """
    factor = 1.0
    if optim.lr_schedule != "constant" and optim.decay_images is not None:
        curve = schedules.linear if optim.lr_schedule == "linear" else schedules.cosine
        factor = curve(images_seen - optim.decay_start_images, 1.0, optim.lr_end, optim.decay_images)
    for group in optimizer.param_groups:
        group.update(optimizer.defaults)
        group["lr"] = optimizer.defaults["lr"] * factor
