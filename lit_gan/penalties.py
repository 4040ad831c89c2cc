"""Gradient penalties: pure functions of a discriminator's logits and of the inputs that produced them.

`inputs` [B, ...] may have any rank (images, audio, rows), must require grad, and no layer between them and
`logits` may mix samples with a say in the gradient (batch norm), or it is not per sample. Call them, and the
discriminator, in float32 and not compiled (`AdversarialModule.exact`), and without in-place activations. All
are unweighted.

>>> import torch
>>> x = torch.randn(5, 2, requires_grad=True)
>>> squared_norm(x @ torch.tensor([3.0, 4.0]), x).mean().item()
25.0
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

Penalty = Literal["exact", "approx"]  # by the gradient itself, or by finite differences
SLOPES = ("r1", "r2", "gradient_penalty", "dragan")  # what `regularise.*` has of them
OWN: Mapping[str, str] = dict.fromkeys(
    SLOPES, "which has a gradient penalty of its own"
)  # who refuses them: why


def input_gradient(logits: Tensor, inputs: Tensor) -> Tensor:
    """The gradient of each sample's logits at its input, [B, D] in float32, itself differentiable.

    Several logits per sample (a patch discriminator) are summed.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
    return gradient.flatten(1).float()


def squared_norm(logits: Tensor, inputs: Tensor) -> Tensor:
    """The squared norm of each sample's input gradient, [B]; its mean is R1 at reals, R2 at fakes.

    Mescheder et al. 2018, arXiv:1801.04406, eq. 9; the paper's weight is gamma / 2.
    """
    return input_gradient(logits, inputs).square().sum(1)


def squared_slope(moved_logits: Tensor, logits: Tensor, sigma: float) -> Tensor:
    """Each sample's squared slope between its input and the same with N(0, sigma^2) added, [B], by their logits [B, ...].

    Lin et al. 2025, arXiv:2501.08316, section 3.4: the mean over the noise tends to `squared_norm` as sigma goes to 0,
    without a second backward pass. Whatever else is random must be the same in both: augmentation, noise in the network.
    Where a layer mixes samples (minibatch_std) it is the slope of each sample's own logit, along the noise of all.
    """
    difference = moved_logits.float() - logits.float()
    return (difference.reshape(len(difference), -1).sum(1) / sigma).square()


def finite_difference(moved_logits: Tensor, logits: Tensor, sigma: float) -> Tensor:
    """The mean of `squared_slope`, which tends to that of `squared_norm`."""
    return squared_slope(moved_logits, logits, sigma).mean()


def one_centred(logits: Tensor, inputs: Tensor) -> Tensor:
    """Mean squared distance of the input gradient's norm from 1 (Gulrajani 2017, arXiv:1704.00028, eq. 3).

    Two-sided; the norm is over all dimensions of a sample. The paper's weight is 10.
    """
    # The tiny constant keeps the derivative of the root finite where a gradient is exactly zero.
    return ((squared_norm(logits, inputs) + 1e-12).sqrt() - 1).square().mean()


def interpolate(real: Tensor, fake: Tensor) -> Tensor:
    """A uniformly drawn point on the segment between each real and its fake, a leaf that requires grad.

    Both [B, ...] of one shape; one draw per sample, shared by its dimensions.
    """
    share = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device, dtype=real.dtype)
    return torch.lerp(real.detach(), fake.detach().to(real.dtype), share).requires_grad_()
