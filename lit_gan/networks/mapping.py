"""StyleGAN's mapping network (Karras et al. 2019, arXiv:1812.04948, section 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lit_gan.networks.condition import as_vector
from lit_gan.networks.equalized import SQRT2, EqualizedLinear, lrelu


def normalised(z: Tensor) -> Tensor:
    """Rows of unit second moment, in float32 at least."""
    z = z.to(torch.promote_types(z.dtype, torch.float32))
    return z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class Mapping(nn.Module):
    """z [B, Z] and labels [B] or [B, K] -> w [B, W]; with `latent_dim` 0 of labels alone, with 0 classes of z alone.

    `bias_gain` as in `EqualizedLinear`.
    """

    def __init__(
        self,
        latent_dim: int,
        num_classes: int,
        w_dim: int,
        depth: int,
        *,
        lr_multiplier: float,
        bias_gain: float | None = None,
    ) -> None:
        super().__init__()
        self.embed = EqualizedLinear(num_classes, w_dim) if num_classes else None
        self.num_classes = num_classes
        inputs = latent_dim + (w_dim if num_classes else 0)
        self.layers = nn.ModuleList(
            EqualizedLinear(
                inputs if i == 0 else w_dim,
                w_dim,
                gain=SQRT2,
                bias_gain=bias_gain,
                lr_multiplier=lr_multiplier,
            )
            for i in range(depth)
        )

    def forward(self, z: Tensor | None, label: Tensor | None = None) -> Tensor:
        parts = [normalised(z)] if z is not None else []
        if self.embed is not None:
            assert label is not None
            parts.append(normalised(self.embed(as_vector(label, self.num_classes))))
        w = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        with torch.autocast(
            w.device.type, enabled=False
        ):  # as in the official code: three digits of w are too few
            for layer in self.layers:
                w = lrelu(layer(w))
        return w


def second_styles(z: Tensor, layers: int, share: float) -> Tensor:
    """For each of z [B, Z] the layer [B] from which a second style rules: uniform in [1, layers) for a `share` of them.

    `layers`, so never, for the others. Mixing regularisation, section 3.1.
    """
    crossover = torch.randint(1, layers, (len(z),), device=z.device)
    whole = torch.rand(len(z), device=z.device) >= share
    return crossover.masked_fill(whole, layers)
