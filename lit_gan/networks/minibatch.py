"""What a discriminator sees of several samples at once (Karras et al. 2018, arXiv:1710.10196, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor


def minibatch_std(features: Tensor, group: int) -> Tensor:
    """Append a map with the mean standard deviation within groups of consecutive samples.

    [B, C, H, W] -> [B, C + 1, H, W].
    In float32 at least. A batch that `group` does not divide is cut into groups of its largest divisor below.
    """
    batch, _, height, width = features.shape
    size = next(size for size in range(min(group, batch), 0, -1) if batch % size == 0)
    with torch.autocast(features.device.type, enabled=False):
        wide = features.to(torch.promote_types(features.dtype, torch.float32))
        groups = wide.reshape(batch // size, size, -1, height, width)
        variance = (groups - groups.mean(1, keepdim=True)).square().mean(1)  # [B / size, C, H, W]
        deviation = (variance + 1e-8).sqrt().mean((1, 2, 3))
    maps = deviation.repeat_interleave(size, output_size=batch).to(features.dtype)[:, None, None, None]
    return torch.cat([features, maps.expand(-1, 1, height, width)], dim=1)
