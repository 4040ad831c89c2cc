"""Spectral normalisation (Miyato et al. 2018, arXiv:1802.05957): layers whose weight has largest singular value 1.

Not `torch.nn.utils.parametrizations.spectral_norm`: that renames the weight in checkpoints, and keeps both vectors, so
that an averaged weight is divided by a sigma which belongs to another one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_gan.networks.condition import looked_up


def as_matrix(weight: Tensor, axis: int = 0) -> Tensor:
    """[O, fan_in], a row for each output, which lie along `axis`; the columns in the order that costs no copy."""
    rows = weight.transpose(0, axis)
    if rows.ndim == 4 and rows.is_contiguous(memory_format=torch.channels_last):
        rows = rows.permute(0, 2, 3, 1)
    return rows.flatten(1)


class SpectralNorm(nn.Module):
    """W -> W / sigma(W), with one step of the power iteration in every forward pass (algorithm 1).

    sigma = u^T W v differentiates through W alone. In float32 also under autocast. `u` is kept and moves in training
    only; every pass makes `v` and the next `u` from it and the weight at hand, also in an averaged network, which has a
    copy of `u`. Equal weights keep it equal on all ranks.
    """

    u: Tensor  # [O], near the first left singular vector

    def __init__(self, outputs: int, axis: int = 0) -> None:
        super().__init__()
        self.axis = axis
        self.register_buffer("u", F.normalize(torch.randn(outputs), dim=0))

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            matrix = as_matrix(weight, self.axis)
            with torch.no_grad():
                v = F.normalize(torch.mv(matrix.t(), self.u), dim=0)
                u = F.normalize(torch.mv(matrix, v), dim=0)
                if self.training:
                    self.u.copy_(u)
            return weight / torch.dot(u, torch.mv(matrix, v))


def spectral_norm(outputs: int, spectral: bool, *, axis: int = 0) -> nn.Module:
    """What a layer passes its weight through: the identity unless `spectral`."""
    return SpectralNorm(outputs, axis) if spectral else nn.Identity()


class Linear(nn.Linear):
    """A linear layer, `spectral` or plain."""

    def __init__(self, features: int, units: int, *, bias: bool = True, spectral: bool = False) -> None:
        super().__init__(features, units, bias=bias)
        self.spectral = spectral_norm(units, spectral)

    def forward(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs, self.spectral(self.weight), self.bias)


class Embedding(nn.Embedding):
    """A linear layer on labels, classes [B] or vectors [B, K], `spectral` or plain: rows of the matrix are classes."""

    def __init__(self, num_classes: int, features: int, *, spectral: bool = False) -> None:
        super().__init__(num_classes, features)
        self.spectral = spectral_norm(num_classes, spectral)

    def forward(self, label: Tensor) -> Tensor:
        return looked_up(label, self.spectral(self.weight))


def normalised_matrices(network: nn.Module) -> list[Tensor]:
    """The weights with spectral norm, before it, as matrices with a row for each output."""
    matrices = []
    for layer in network.modules():
        norm, weight = getattr(layer, "spectral", None), getattr(layer, "weight", None)
        if isinstance(norm, SpectralNorm) and isinstance(weight, Tensor):
            matrices.append(as_matrix(weight, norm.axis))
    return matrices
