"""Regularisers: pure functions of weights, of logits and of images, unweighted, in float32.

>>> import torch
>>> orthogonality(torch.tensor([[1.0, 2.0], [2.0, 0.0]])).item()
8.0
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def orthogonality(matrix: Tensor) -> Tensor:
    """Squared products of different rows, summed: 0 where the filters are orthogonal, whatever their norms.

    ||W W^T o (1 - I)||² (Brock et al. 2019, arXiv:1809.11096, eq. 3), rows being filters; the paper's weight beta is 1e-4.
    """
    with torch.autocast(matrix.device.type, enabled=False):
        if len(matrix) > matrix.shape[1]:  # ||W W^T|| = ||W^T W||, and the first can take gigabytes
            norms = matrix.square().sum(1)
            return (matrix.t() @ matrix).square().sum() - norms.square().sum()
        gram = matrix @ matrix.t()
        return (gram - torch.diag(gram.diagonal())).square().sum()


def filters(network: nn.Module) -> list[Tensor]:
    """Weights of linear and convolutional layers as matrices, a row for each output; not those of embeddings."""
    found = []
    for layer in network.modules():
        weight = getattr(layer, "weight", None)
        if isinstance(weight, nn.Parameter) and weight.ndim > 1 and not isinstance(layer, nn.Embedding):
            found.append(
                (weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else weight).flatten(1)
            )
    return found


def lecam(real_logits: Tensor, fake_logits: Tensor, real_anchor: Tensor, fake_anchor: Tensor) -> Tensor:
    """E[(D(x) - a_F)²] + E[(D(G(z)) - a_R)²] (Tseng et al. 2021, arXiv:2104.03310).

    The anchors a_R and a_F, scalars, are moving averages of the logits of reals and of fakes: each side is drawn to the
    other's. The paper's weight is 0.3 for BigGAN on CIFAR, 3e-7 for StyleGAN2.
    """
    return (real_logits.float() - fake_anchor).square().mean() + (
        fake_logits.float() - real_anchor
    ).square().mean()


def difference(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference of logits or of images of one shape: what consistency keeps small, diversity large.

    |D(x) - D(T(x))|² of reals: CR (Zhang et al. 2020, arXiv:1910.12027), weight 10; of reals and of fakes: bCR,
    10 each; D(G(z)) and D(G(z + dz)), and in G less the same of the images: zCR (Zhao et al. 2020, arXiv:2002.04724,
    algorithms 1 and 2). A mean over the pixels too, so that a weight holds at every size.
    """
    if a.shape != b.shape:
        raise ValueError(f"shapes {tuple(a.shape)} and {tuple(b.shape)} differ")
    return (a.float() - b.float()).square().mean()


def mirrored_at_random(images: Tensor) -> Tensor:
    """Every second of [B, C, H, W], on average, from right to left."""
    turned = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(turned, images.flip(3), images)


def perturbed(images: Tensor, share: float = 0.5) -> Tensor:
    """`images` with N(0, (share * s)²) added, s being the standard deviation of all their values; a leaf with grad.

    Where DRAGAN (Kodali et al. 2017, arXiv:1705.07215) takes its penalty, `penalties.one_centred`, weight 10.
    """
    images = images.detach().float()
    return (images + share * images.std() * torch.randn_like(images)).requires_grad_()


def highest(logits: Tensor, share: float) -> Tensor:
    """The `share` in (0, 1] of samples whose logits [B, ...] are highest, at least one, rounded up; all of them at 1.

    Top-k training of G (Sinha et al. 2020, arXiv:2002.06224). Several logits of a sample count by their mean.
    """
    k = min(len(logits), max(1, math.ceil(share * len(logits) - 1e-9)))
    if k == len(logits):
        return logits
    return logits[logits.detach().reshape(len(logits), -1).mean(1).topk(k).indices]
