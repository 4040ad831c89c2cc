"""DINOv2 ViT-L/14, the extractor of FD-DINOv2 (Oquab et al. 2023, arXiv:2304.07193; Stein et al. 2023, arXiv:2306.04675).

Stein et al. recommend it over Inception, whose features come from ImageNet's labels. As in dgm-eval, their code: the whole
image is squashed to 224, bicubic as Pillow does it, rounded to grey levels (metrics.resize=clean is its --clean_resize: not
rounded), and the feature is the class token behind the last norm. The graph is timm's; the weights (1.2 GB) are not part of
lit-gan.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_gan.metrics.vision import Preparation, VisionModel

SIDE, PATCH = 224, 14


class DinoV2(VisionModel):
    """uint8 [B, C, H, W] -> class tokens [B, 1024]; grey is repeated to 3 channels, RGBA laid over black."""

    name = "dinov2"
    architecture = "vit_large_patch14_dinov2"
    options: ClassVar = {"num_classes": 0, "img_size": SIDE}
    resizes: ClassVar = {
        "legacy": f"bicubic, antialiased, to {SIDE}, rounded",
        "clean": f"bicubic, antialiased, to {SIDE}, not rounded",
    }
    resize = resizes["legacy"]

    def preparation_of(self, graph: nn.Module) -> Preparation:
        return Preparation((SIDE, SIDE))

    def converted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        positions = state.get("pos_embed")
        if positions is None:
            return state
        return {**state, "pos_embed": shrunk(positions, SIDE // PATCH)}


def shrunk(positions: Tensor, side: int) -> Tensor:
    """Position embeddings [1, 1 + N * N, D] for a grid of N x N patches -> [1, 1 + side * side, D], as DINOv2 does.

    Its code asks for a tenth of a patch more than it needs, which shifts every sample a little, and does not antialias;
    timm would do neither: on random embeddings that moves features of size 1 by more than 0.01; trained ones are smoother
    and have not been tried.
    """
    grid = positions[:, 1:].float()
    before = math.isqrt(grid.shape[1])
    if before in {0, side} or before**2 != grid.shape[1]:
        return positions
    grid = grid.reshape(1, before, before, -1).permute(0, 3, 1, 2)  # [1, D, N, N]
    grid = F.interpolate(grid, scale_factor=(side + 0.1) / before, mode="bicubic")  # [1, D, side, side]
    return torch.cat([positions[:, :1].float(), grid.flatten(2).transpose(1, 2)], 1)
