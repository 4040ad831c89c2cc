"""CLIP's image tower ViT-L/14 at 336, the extractor of CMMD (Radford et al. 2021, arXiv:2103.00020; Jayasumana et al. 2024,
arXiv:2401.09603).

As in CMMD's code: the square in the middle of the image, bicubic to 336 as Pillow does it, rounded to grey levels
(metrics.resize=clean: not rounded), and the embedding that CLIP compares with text. Its length is left as it is; CMMD
divides by it. The graph is timm's; the weights (1.7 GB) are not part of lit-gan.
"""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from lit_gan.metrics.vision import Preparation, VisionModel

SIDE = 336


class Clip(VisionModel):
    """uint8 [B, C, H, W] -> embeddings [B, 768]; grey is repeated to 3 channels, RGBA laid over black."""

    name = "clip"
    architecture = (
        "vit_large_patch14_clip_quickgelu_336"  # OpenAI trained with x * sigmoid(1.702 x), not with GELU
    )
    options: ClassVar = {"num_classes": 768}  # timm's classifier is in the place of CLIP's projection
    resizes: ClassVar = {
        "legacy": f"middle square, bicubic, antialiased, to {SIDE}, rounded",
        "clean": f"middle square, bicubic, antialiased, to {SIDE}, not rounded",
    }
    resize = resizes["legacy"]

    def preparation_of(self, graph: nn.Module) -> Preparation:
        mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
        return Preparation((SIDE, SIDE), mean, std, square=True)
