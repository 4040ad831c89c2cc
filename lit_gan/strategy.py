"""Data-parallel training of two players without a DDP wrapper.

DDP expects every parameter to take part in every backward pass, which two alternating players, lazy penalties and frozen
networks break. Here the gradients of the optimiser that is about to step are averaged in one flat all-reduce, as
StyleGAN2 did: nothing to go wrong with unused parameters, accumulation or second-order gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.overrides.distributed import _sync_module_states
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.optim import Optimizer


class FlatReduceStrategy(DDPStrategy):
    """Lightning's DDP set-up (launch, ranks, process group) with the gradients averaged before each optimiser step."""

    def configure_ddp(self) -> None:
        """Give every rank the parameters and buffers of rank 0; no wrapper."""
        assert self.model is not None
        _sync_module_states(self.model)

    def optimizer_step(
        self, optimizer: Optimizer, closure: Callable[[], Any], model: Any = None, **kwargs: Any
    ) -> Any:
        """Average first: clipping, the check for finite numbers and the step then see the same on every rank."""
        average_gradients(optimizer, self.world_size)
        return super().optimizer_step(optimizer, closure, model, **kwargs)

    def reduce_buffers(self, module: nn.Module) -> None:
        """Average the floating-point buffers in `state_dict` (batch norm statistics, the mean w) over the ranks.

        Done in every step, so that evaluation, the generator's average and a checkpoint find them equal whenever they
        look. In float64, where the mean of equal float32 numbers is that number.
        """
        saved = module.state_dict(keep_vars=True)
        buffers = [b for name, b in module.named_buffers() if name in saved and b.is_floating_point()]
        if not buffers:
            return
        wide = torch.float64 if buffers[0].device.type != "mps" else torch.float32
        flat = torch.cat([b.detach().reshape(-1).to(wide) for b in buffers])
        dist.all_reduce(flat)
        flat /= self.world_size
        for buffer, mean in zip(buffers, torch.split(flat, [b.numel() for b in buffers]), strict=True):
            buffer.copy_(mean.view(buffer.shape))


def average_gradients(optimizer: Optimizer, world_size: int) -> None:
    """Replace each gradient of `optimizer` by its mean over the ranks, in one all-reduce; a missing one counts as zero."""
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    flat = torch.cat([_gradient(p).reshape(-1) for p in parameters])
    dist.all_reduce(flat)
    flat /= world_size
    for parameter, mean in zip(parameters, torch.split(flat, [p.numel() for p in parameters]), strict=True):
        if parameter.grad is None:
            parameter.grad = mean.view(parameter.shape).clone()
        else:
            parameter.grad.copy_(mean.view(parameter.shape))  # keeps a channels_last layout


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def assert_ranks_equal(module: nn.Module) -> None:
    """Raise if a parameter or saved buffer differs between ranks by a single bit: the proof that the ranks agree."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return
    tensors = list(module.state_dict().values())
    sums = torch.stack(
        [t.detach().double().sum() for t in tensors] + [t.detach().double().abs().sum() for t in tensors]
    )
    low, high = sums.clone(), sums.clone()
    dist.all_reduce(low, op=dist.ReduceOp.MIN)
    dist.all_reduce(high, op=dist.ReduceOp.MAX)
    if not torch.equal(low, high):
        names = list(module.state_dict())
        wrong = names[int((low != high).nonzero()[0]) % len(names)]
        raise RuntimeError(
            f"ranks disagree on {wrong}: an optimiser was stepped without the strategy's all-reduce"
        )
