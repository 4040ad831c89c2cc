"""Layers of transformers over a grid of image patches: attention with rotary positions, SwiGLU, RMS normalisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

THETA = 10_000.0  # of the rotary frequencies and of the fixed position table


def rms_norm(tokens: Tensor) -> Tensor:
    """Tokens [..., D] of unit second moment, without weights."""
    return F.rms_norm(tokens, tokens.shape[-1:], eps=1e-6)


class RMSNorm(nn.RMSNorm):
    """The same with learned weights, in the precision of the tokens."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, eps=1e-6)

    def forward(self, tokens: Tensor) -> Tensor:
        return F.rms_norm(tokens, self.normalized_shape, self.weight.to(tokens.dtype), self.eps)


def _frequencies(count: int) -> Tensor:
    return THETA ** (-torch.arange(count, dtype=torch.float64) / count)


def position_table(height: int, width: int, dim: int) -> Tensor:
    """Fixed sines and cosines [H * W, D], half of the features for the row and half for the column."""
    if dim % 4:
        raise ValueError(f"a position table needs a width that 4 divides, got {dim}")
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    halves = []
    for axis in (rows, columns):
        angles = torch.outer(axis.flatten().double(), _frequencies(dim // 4))
        halves += [angles.sin(), angles.cos()]
    return torch.cat(halves, dim=1).float()


class Rotary(nn.Module):
    """Axial rotary positions (Su et al. 2021, arXiv:2104.09864): half of a head turns with the row, half with the column.

    The product of a query and a key then depends on where they lie to one another. `prefix` tokens in front stay.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, height: int, width: int, head_dim: int, prefix: int = 0) -> None:
        super().__init__()
        if head_dim % 4:
            raise ValueError(f"rotary positions need heads that 4 divides, got {head_dim}")
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        angles = torch.cat(
            [torch.outer(axis.flatten().double(), _frequencies(head_dim // 4)) for axis in (rows, columns)],
            dim=1,
        ).repeat_interleave(2, dim=1)  # [H * W, head_dim]: one angle for each pair of neighbouring features
        angles = torch.cat([angles.new_zeros(prefix, head_dim), angles])
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)

    def forward(self, heads: Tensor) -> Tensor:
        """[B, heads, T, head_dim] -> the same, turned."""
        pairs = heads.view(*heads.shape[:-1], -1, 2)
        turned = torch.stack([-pairs[..., 1], pairs[..., 0]], dim=-1).flatten(-2)
        return heads * self.cos.to(heads.dtype) + turned * self.sin.to(heads.dtype)


class Attention(nn.Module):
    """Full self-attention [B, T, D] -> [B, T, D], queries and keys of unit second moment in each head."""

    def __init__(self, dim: int, heads: int, rotary: Rotary) -> None:
        super().__init__()
        self.heads, self.rotary = heads, rotary
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_norm, self.k_norm = RMSNorm(dim // heads), RMSNorm(dim // heads)
        self.project = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, length, _ = tokens.shape
        q, k, v = self.qkv(tokens).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = self.rotary(self.q_norm(q)), self.rotary(self.k_norm(k))
        mixed = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v)  # [B, heads, T, head_dim]
        projected: Tensor = self.project(mixed.transpose(1, 2).flatten(2))
        return projected


class SwiGLU(nn.Module):
    """W3 (silu(W1 x) * W2 x), of two thirds of four times the width (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = 2 * 4 * dim // 3
        self.w1, self.w2, self.w3 = nn.Linear(dim, hidden), nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        mixed: Tensor = self.w3(F.silu(self.w1(tokens)) * self.w2(tokens))
        return mixed
