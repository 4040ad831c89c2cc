"""A small network trained once on the data's own labels: features that know the data, without any download.

It learns from a share of the images that is never part of the reference (an extractor's own training images
look nearer than they are: FID 0.55 against 0.25 at n = 300 on digits). Training is seeded, on one CPU thread,
so the same machine makes the same network; other processors may round otherwise, which the weights' hash then
tells. A classifier is blind off its manifold (it prefers uniform noise to blur): read `pixels` beside it.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from lit_gan.cache import cache_root
from lit_gan.errors import UserError
from lit_gan.metrics.extractors import Extractor, Source
from lit_gan.metrics.pixels import pooled
from lit_gan.metrics.stacked import StackedClassifier, Stacks
from lit_gan.metrics.store import Description, content_key, load, locked, save
from lit_gan.metrics.sums import Arrays

log = logging.getLogger(__name__)

VERSION = 1  # of everything in this file that moves a weight: raised with it
SEED = 0
SIDE = 48  # larger images are average-pooled to at most this
WIDTH = 64  # features
MOST_IMAGES = 10_000  # to learn from
BATCH = 64
EPOCHS = 16
MOST_PIXELS = 100_000_000  # shown while learning: bounds the time at about a minute
FEWEST_PER_CLASS = 4

Indices = NDArray[np.int64]


class Network(nn.Module):
    """[B, C, H, W] in [-1, 1] -> features [B, 64] >= 0; `head` makes logits of them."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_block(channels, 32, stride=2),
            *_block(32, 64, stride=2),
            *_block(64, 64, stride=1),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(64 * 16, WIDTH),
            nn.ReLU(),
        )
        self.head = nn.Linear(WIDTH, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.body(images)
        return features


class Classifier(Extractor):
    """uint8 [B, C, H, W] -> penultimate features [B, 64] over their standard deviation on unseen reals,
    logits [B, K].

    `accuracy` is that on the reference, which is disjoint from what it learnt from.
    """

    name = "classifier"
    dim = WIDTH
    data_classes = True

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int, arrays: Arrays) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.grid = pooled(height, SIDE), pooled(width, SIDE)
        self.resize = "none" if self.grid == (height, width) else f"area to at most {SIDE}"
        self.num_logits = num_classes
        with torch.random.fork_rng(devices=[]):
            self.network = Network(channels, num_classes)
        self.network.load_state_dict(
            {name: torch.from_numpy(arrays[name]) for name in self.network.state_dict()}
        )
        self.scale = float(arrays["scale"])
        self.accuracy = float(arrays["accuracy"])
        self.reference = arrays["reference"]
        self.weights_hash = _hash(arrays)

    @classmethod
    def build(
        cls, *, data: Source, weights: str | None, weights_sha256: str | None, device: torch.device
    ) -> Extractor:
        if isinstance(data, Stacks):
            single = cls.build(data=data.base, weights=weights, weights_sha256=weights_sha256, device=device)
            return StackedClassifier(single, data.parts)
        if (
            data.labels is None
            or data.labels.ndim != 1
            or data.num_classes < 2
            or data.images.dtype != np.uint8
        ):
            vectors = data.labels is not None and data.labels.ndim != 1
            what = "labels that are vectors" if vectors else f"{data.num_classes} classes"
            raise UserError(
                f"metrics.extractor=classifier: learns from labelled images of 2 classes or more, the data "
                f"({data.size} of type {data.images.dtype}, {what}) are none; use "
                "metrics.extractor=inception or metrics.extractor=pixels"
            )
        if data.size < FEWEST_PER_CLASS * data.num_classes:
            raise UserError(
                f"metrics.extractor=classifier: {data.size} images of {data.num_classes} classes are too few "
                "to learn from; use metrics.extractor=inception or metrics.extractor=pixels"
            )
        description: Description = {
            "kind": "classifier",
            "version": VERSION,
            "data": data.fingerprint,
            "image_shape": list(data.image_shape),
            "num_classes": data.num_classes,
        }
        if weights is None:
            arrays = _cached(
                cache_root() / "extractors" / f"{content_key(description)}.npz", data, description
            )
        elif (given := load(Path(weights).expanduser(), description)) is None:
            raise UserError(
                f"metrics.weights={weights}: no classifier for these data (another machine's "
                f"{cache_root() / 'extractors' / content_key(description)}.npz would be)"
            )
        else:
            arrays = given
        found = _hash(arrays)
        if weights_sha256 is not None and found != weights_sha256.lower():
            raise UserError(
                f"the classifier's weights have the sha256 {found}, metrics.weights_sha256 says "
                f"{weights_sha256}"
            )
        return cls(data.image_shape, data.num_classes, arrays)

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        features = self.network(_prepared(images, self.grid))
        return features / self.scale, self.network.head(features)


def shares(size: int) -> tuple[Indices, Indices]:
    """Sorted indices to learn from (a third, or 10,000 of over 20,000) and of the reference, the rest."""
    order = np.random.default_rng(SEED).permutation(size)
    learnt = MOST_IMAGES if size > 2 * MOST_IMAGES else size // 3
    return np.sort(order[:learnt]), np.sort(order[learnt:])


def _cached(path: Path, data: Source, description: Description) -> Arrays:
    with locked(path):
        arrays = load(path, description)
        if arrays is None:
            arrays = _learn(data)
            save(path, arrays, description)
    return arrays


def _learn(data: Source) -> Arrays:
    learnt, reference = shares(data.size)
    assert data.labels is not None  # build() refused unlabelled data
    channels, height, width = data.image_shape
    grid = pooled(height, SIDE), pooled(width, SIDE)
    images = _prepared(_gather(data, learnt), grid)  # [N, C, h, w]
    labels = torch.from_numpy(np.asarray(data.labels)[learnt])
    steps_per_epoch = max(len(images) // BATCH, 1)
    affordable = MOST_PIXELS // (BATCH * grid[0] * grid[1])
    steps = min(EPOCHS * steps_per_epoch, max(affordable, steps_per_epoch))
    with _deterministic():
        torch.default_generator.manual_seed(
            SEED
        )  # within fork_rng, and not torch.manual_seed: that seeds GPUs too
        network = Network(channels, data.num_classes)
        optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
        for step, rows in zip(range(steps), _batches(len(images)), strict=False):
            for group in optimizer.param_groups:
                group["lr"] = 2e-3 * (0.5 + 0.5 * math.cos(math.pi * step / steps))
            loss = F.cross_entropy(network.head(network(images[rows])), labels[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        network.eval()
        unseen = np.sort(np.random.default_rng(SEED).permutation(reference)[:MOST_IMAGES])
        with torch.no_grad():
            features = torch.cat(
                [
                    network(_prepared(_gather(data, part), grid))
                    for part in np.array_split(unseen, -(-len(unseen) // 512))
                ]
            )
            right = network.head(features).argmax(1).numpy() == np.asarray(data.labels)[unseen]
    accuracy = float(right.mean())
    report = log.warning if accuracy < 0.8 else log.info
    report(
        "the classifier of the scores learnt from %d images: %.1f %% right on %d unseen ones%s",
        len(learnt),
        100 * accuracy,
        len(unseen),
        "; metrics.extractor=inception would see more" if accuracy < 0.8 else "",
    )
    # one scale for all features: dividing each by its own would raise those that hardly ever fire
    scale = features.double().var(0).mean().sqrt().clamp_min(1e-6)
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    return {**state, "scale": scale.numpy(), "accuracy": np.array(accuracy), "reference": reference}


def _block(fan_in: int, fan_out: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(fan_in, fan_out, 3, stride, 1, bias=False), nn.BatchNorm2d(fan_out), nn.ReLU()]


def _batches(size: int) -> Iterator[Tensor]:
    """Endless rows [64], shuffled anew in every epoch; the odd rest of an epoch is dropped."""
    generator = torch.Generator().manual_seed(SEED)
    while True:
        order = torch.randperm(size, generator=generator)
        for start in range(0, max(size - BATCH, 0) + 1, BATCH):
            yield order[start : start + BATCH]


def _gather(data: Source, indices: Indices) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(data.images[indices])).permute(
        0, 3, 1, 2
    )  # [B, C, H, W] uint8


def _prepared(images: Tensor, grid: tuple[int, int]) -> Tensor:
    images = images.float() / 127.5 - 1
    return images if images.shape[2:] == grid else F.adaptive_avg_pool2d(images, grid)


@contextmanager
def _deterministic() -> Iterator[None]:
    """One thread and a random stream of its own; float32 whatever the surroundings are."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with torch.random.fork_rng(devices=[]), torch.autocast("cpu", enabled=False), torch.enable_grad():
            yield
    finally:
        torch.set_num_threads(threads)


def _hash(arrays: Arrays) -> str:
    """sha256 of names and bytes: weights, scale and reference, which all move a score."""
    digest = hashlib.sha256()
    for name in sorted(set(arrays) - {"accuracy"}):
        digest.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
