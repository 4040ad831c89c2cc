"""What the benchmarks of scores measure on: Inception with random weights, pictures, and one pass for many metrics.

Neither parity nor time needs the trained weights: a file of random ones in the standard format goes through all sides. The
values mean nothing, the differences do.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchmetrics.image.fid import NoTrainInceptionV3

BATCH = 16


class Pictures(Dataset):
    """uint8 [N, 3, H, W]: one at a time, as torch-fidelity reads data, and a `Source`, as lit-gan does."""

    labels = None
    num_classes = 0
    class_weights = None

    def __init__(self, images: Tensor) -> None:
        self.tensor = images
        self.images = images.permute(0, 2, 3, 1).numpy()  # [N, H, W, 3]
        self.image_shape = tuple(images.shape[1:])
        self.size = len(images)
        self.fingerprint = hashlib.sha256(images.numpy().tobytes()).hexdigest()

    def __getitem__(self, index: int) -> Tensor:
        return self.tensor[index]

    def __len__(self) -> int:
        return self.size

    def real_batch(self, indices: list[int]) -> dict[str, Tensor]:
        return {"image": self.tensor[indices]}


class Once:
    """A network's outputs for a batch, computed once however many metrics ask for them."""

    def __init__(self, network: Callable[[Tensor], tuple[Tensor, ...]]) -> None:
        self.network = network
        self.known: dict[bytes, tuple[Tensor, ...]] = {}

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        key = hashlib.sha256(np.ascontiguousarray(images.numpy())).digest()
        if key not in self.known:
            with torch.no_grad():
                self.known[key] = self.network(images)
        return self.known[key]


class Output(nn.Module):
    """One of the outputs, as torchmetrics wants a network: [B, `num_features`], in float32 or float64."""

    def __init__(self, once: Once, index: int, dim: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.once, self.index, self.num_features, self.dtype = once, index, dim, dtype

    def forward(self, images: Tensor) -> Tensor:
        return self.once(images)[self.index].to(self.dtype)


def torchmetrics_once(weights: Path) -> Once:
    """torchmetrics' Inception: features [B, 2048] and logits [B, 1008] (its own `forward` gives the first alone)."""
    net = NoTrainInceptionV3("net", ["2048", "logits_unbiased"], str(weights), antialias=False)
    return Once(net._torch_fidelity_forward)


def random_weights(path: Path) -> None:
    """Writes Inception's state dict with weights that keep the signal's size through all layers."""
    with (
        patch("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", lambda *_, **__: {}),
        patch.object(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None),
    ):
        graph = FeatureExtractorInceptionV3("random", ["2048"])
    for layer in graph.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.normal_(graph.fc.weight, std=0.3)  # else every image is of all classes, and the Inception score 1
    torch.save(graph.state_dict(), path)


def pictures(number: int, size: int, coarse: int) -> Tensor:
    """Coloured blobs, uint8 [N, 3, size, size]; `coarse` is how many there are along a side."""
    blobs = nn.functional.interpolate(torch.randn(number, 3, coarse, coarse), (size, size), mode="bicubic")
    return (blobs * 60 + 128 + torch.randn(number, 3, size, size) * 8).clamp(0, 255).to(torch.uint8)


def versions(*names: str) -> str:
    """Those of the packages."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
