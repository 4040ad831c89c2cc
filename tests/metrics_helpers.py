"""Small data and generators for the tests of scores."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torchmetrics import Metric

from lit_gan.metrics.extractors import Network
from lit_gan.metrics.features import FeatureMetric


def processes(count: int) -> ProcessPoolExecutor:
    """Fresh processes, forked from one that has imported everything."""
    context = get_context("forkserver")
    context.set_forkserver_preload(
        ["lit_gan.metrics.evaluate", "lit_gan.metrics.classifier", "sklearn.datasets"]
    )
    return ProcessPoolExecutor(count, context)


def normal64(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def both(metric: Metric, real: Tensor, fake: Tensor, batch: int = 1000) -> Tensor | tuple[Tensor, ...]:
    """What the metric makes of features of reals and fakes in batches."""
    for side, rows in ((True, real), (False, fake)):
        for part in rows.split(batch):
            metric.update(part, real=side)
    return metric.compute()


class Images:
    """The interface of a data source, over arrays in memory."""

    def __init__(self, images: np.ndarray, labels: np.ndarray | None, num_classes: int, name: str) -> None:
        self.images, self.labels, self.num_classes = images, labels, num_classes
        self.image_shape = (images.shape[3], images.shape[1], images.shape[2])
        self.fingerprint, self.size = name, len(images)

    @property
    def class_weights(self) -> list[float] | None:
        return None if self.labels is None else np.bincount(self.labels, minlength=self.num_classes).tolist()

    def real_batch(self, indices: list[int]) -> dict[str, Tensor]:
        batch = {"image": torch.from_numpy(np.ascontiguousarray(self.images[indices])).permute(0, 3, 1, 2)}
        if self.labels is not None:
            batch["label"] = torch.from_numpy(self.labels[indices])
        return batch


def digits(side: int = 16) -> Images:
    bunch = load_digits()
    grey = torch.from_numpy(bunch.images).float()[:, None] / 16 * 255
    grey = nn.functional.interpolate(grey, (side, side), mode="bilinear").round().to(torch.uint8)
    return Images(grey.permute(0, 2, 3, 1).numpy(), bunch.target.astype(np.int64), 10, f"digits-{side}")


def noise(size: int = 97, shape: tuple[int, int, int] = (1, 8, 8), seed: int = 0) -> Images:
    channels, height, width = shape
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (size, height, width, channels), dtype=np.uint8)
    return Images(images, generator.integers(0, 3, size), 3, f"noise-{seed}-{size}")


class Fake(nn.Module):
    """A generator that is a function of z and the label, and counts on being in eval mode."""

    real_key = "image"
    truncates = False

    def __init__(self, shape: tuple[int, int, int] = (1, 8, 8), latent_dim: int = 6) -> None:
        super().__init__()
        self.latent_dim, self.shape = latent_dim, shape
        generator = torch.Generator().manual_seed(1)
        width = shape[0] * shape[1] * shape[2]
        self.weight = nn.Parameter(torch.randn(latent_dim, width, generator=generator))
        self.dropout = nn.Dropout(0.5)

    @property
    def device(self) -> torch.device:
        return self.weight.device

    def generate(self, batch: dict[str, Tensor]) -> Tensor:
        images = torch.tanh(self.dropout(batch["z"] @ self.weight)) * 0.8
        if "label" in batch:
            images = images + 0.1 * (batch["label"][:, None] - 1)
        return images.unflatten(1, self.shape)


class Replay(Fake):
    """Shows images of the data, chosen by z and then changed: a generator of known quality."""

    def __init__(self, data: Images, allowed: np.ndarray, change: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(data.image_shape, latent_dim=32)
        self.data, self.allowed, self.change = data, allowed, change

    def generate(self, batch: dict[str, Tensor]) -> Tensor:
        share = torch.special.ndtr(batch["z"][:, 0].double()).numpy()
        chosen = self.allowed[(share * len(self.allowed)).astype(int).clip(max=len(self.allowed) - 1)]
        images = self.data.real_batch(chosen.tolist())["image"].float() / 127.5 - 1
        return self.change(images, batch["z"])


def normal(n: int, d: int = 8, seed: int = 0, scale: float = 1) -> Tensor:
    return scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def filled(kind: type[FeatureMetric], real: Tensor, fake: Tensor, batch: int = 10_000) -> FeatureMetric:
    """A metric that has taken features of both sides in batches."""
    metric = kind(real.shape[1])
    for side, rows in ((True, real), (False, fake)):
        for part in rows.split(batch):
            metric.update(part, real=side)
    return metric


def value(kind: type[FeatureMetric], real: Tensor, fake: Tensor, **settings: int) -> tuple[float, ...]:
    return numbers(filled(kind, real, fake, **settings))


def numbers(metric: FeatureMetric) -> tuple[float, ...]:
    """What `compute` gives, one number or several."""
    return tuple(torch.atleast_1d(torch.as_tensor(metric.compute())).tolist())


def distances(x: Tensor, y: Tensor) -> np.ndarray:
    a, b = x.double().numpy(), y.double().numpy()
    return np.sqrt(((a[:, None] - b[None]) ** 2).sum(2))


def radii(points: Tensor, k: int) -> np.ndarray:
    """Distance to the k-th neighbour, all distances at once."""
    return np.sort(distances(points, points), axis=1)[:, k]  # column 0 is the point itself


def random_inception(path: Path) -> str:
    """Writes random weights in the format of the Inception file; their sha256."""
    from torch_fidelity import feature_extractor_inceptionv3 as theirs

    graph_class = theirs.FeatureExtractorInceptionV3
    with (
        patch.object(theirs, "load_state_dict_from_url", lambda *_, **__: {}),
        patch.object(graph_class, "load_state_dict", lambda *_: None),
    ):
        torch.save(graph_class("random", ["2048"]).state_dict(), path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def random_lpips(path: Path, backbone: str = "alex", seed: int = 0) -> dict[str, Tensor]:
    """Writes random weights of an LPIPS backbone in torchvision's format and returns them by name.

    The fully connected layers, which LPIPS has not, are left out.
    """
    import torchvision

    with torch.device("meta"):
        graph = getattr(torchvision.models, {"alex": "alexnet", "vgg": "vgg16"}[backbone])()
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, value in graph.state_dict().items():
        if name.startswith("features."):
            scale = (2 / value[0].numel()) ** 0.5 if value.ndim == 4 else 0.1
            state[name] = scale * torch.randn(value.shape, generator=generator)
    torch.save(state, path)
    return state


class SquaredDistance(Network):
    """A stand-in for LPIPS: the squared distance of the images in [-1, 1], per image."""

    name, weights_hash = "squared", "of nothing"

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        a, b = (x.double() / 127.5 - 1 if x.dtype == torch.uint8 else x.double() for x in (first, second))
        return (a - b).square().flatten(1).sum(1)

    def lacks(self, data: Images) -> str:
        return ""
