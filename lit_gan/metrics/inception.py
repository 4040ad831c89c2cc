"""Inception-v3 of the TensorFlow GAN library, the extractor of published FID, KID and IS: torch-fidelity's
graph.

Bit-identical to torch-fidelity's `inception-v3-compat`: TF1 bilinear resize to 299, features of the last
pooling (2048), logits without bias (1008). With metrics.resize=clean the resize is clean-fid's (Parmar et al.
2022, arXiv:2104.11222), before the same layers. The weights (95.7 MB) are not part of lit-gan;
docs/metrics.md says where they go.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from lit_gan.errors import UserError
from lit_gan.metrics.extractors import Extractor, Source, as_rgb, check_pictures, resized
from lit_gan.metrics.weights import KNOWN, find_weights, read_tensors, verified

SIDE = 299


class Inception(Extractor):
    """uint8 [B, C, H, W] -> [B, 2048], [B, 1008]; grey is repeated to 3 channels, RGBA laid over black."""

    name = "inception"
    dim = 2048
    num_logits = 1008
    resizes: ClassVar = {
        "legacy": f"TF1 bilinear to {SIDE}",
        "clean": f"bicubic, antialiased, to {SIDE}, not rounded",
    }
    resize = resizes["legacy"]

    def __init__(self, weights: Path, weights_sha256: str | None = None) -> None:
        super().__init__()
        from torch_fidelity.feature_extractor_inceptionv3 import (
            FeatureExtractorInceptionV3,
        )

        self.weights_hash = verified(weights, weights_sha256, KNOWN["inception"])
        # the graph unpickles what it is given without weights_only: so it is given a copy of ours
        buffer = io.BytesIO()
        torch.save(read_tensors(weights), buffer)
        buffer.seek(0)
        try:
            with torch.random.fork_rng(devices=[]):  # its layers draw an initialisation first
                self.graph = FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], buffer)
        except RuntimeError as error:
            raise UserError(
                f"{weights} does not fit the Inception graph: {str(error).splitlines()[0]}"
            ) from error

    @classmethod
    def build(
        cls, *, data: Source, weights: str | None, weights_sha256: str | None, device: torch.device
    ) -> Inception:
        check_pictures(cls.name, data)
        return cls(find_weights(cls.name, weights), weights_sha256)

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        images = as_rgb(images)
        if self.resize == self.resizes["clean"]:
            return self.layers(resized(images, (SIDE, SIDE)))
        features, logits = self.graph(images)
        return features, logits

    def layers(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The graph behind its resize, which takes uint8 only: float [B, 3, 299, 299] in [0, 255].

        It defines its layers in the order in which it applies them, the classifier `fc` last.
        """
        # contiguous: convolutions round differently by memory layout, and the graph's resize gives this one
        x = (images.contiguous() - 128) / 128
        for name, layer in self.graph.named_children():
            if name != "fc":
                x = layer(x)
        features = x.flatten(1)  # [B, 2048]
        return features, features.mm(self.graph.fc.weight.T)
