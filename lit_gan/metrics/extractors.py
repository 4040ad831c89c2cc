"""Extractors turn images into features, and into logits where they classify; a score is as good as its
extractor."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from lit_gan.errors import UserError
from lit_gan.metrics import EXTRACTORS


class Source(Protocol):
    """What scores need of a data source, after its `prepare()`."""

    @property
    def images(self) -> np.ndarray[Any, Any]: ...  # [N, H, W, C], uint8 or (toy points) float32

    @property
    def labels(self) -> np.ndarray[Any, Any] | None: ...  # [N] int64

    @property
    def image_shape(self) -> tuple[int, int, int]: ...  # C, H, W

    @property
    def num_classes(self) -> int: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def class_weights(self) -> list[float] | None: ...

    def real_batch(self, indices: Sequence[int]) -> dict[str, Tensor]: ...


class Extractor(nn.Module):
    """Base of extractors: `forward(images uint8 [B, C, H, W]) -> (features [B, D], logits [B, K] or None)`.

    Always in eval mode, frozen, in float32 without autocast or TF32, without gradients. A subclass sets the
    attributes and gives `extract` and `build`. Float images are taken only by extractors that say so.
    """

    name: str  # in EXTRACTORS
    dim: int  # D
    num_logits: int = 0  # K; 0: no logits
    data_classes: bool = False  # whether the logits are over the data's own classes
    weights_hash: str = "none"  # sha256
    resize: str  # in words, for the protocol
    reference: np.ndarray[Any, Any] | None = None  # which of the data to compare with; None: all

    @property
    def has_logits(self) -> bool:
        return self.num_logits > 0

    @classmethod
    def build(
        cls, *, data: Source, weights: str | None, weights_sha256: str | None, device: torch.device
    ) -> Extractor:
        """The extractor for this data, on the CPU; `device` is where expensive preparations may run."""
        raise NotImplementedError

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """The features and logits themselves."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        with torch.no_grad(), exact_float32(images.device):
            return self.extract(images)

    def train(self, mode: bool = True) -> Extractor:
        return super().train(False)


def build_extractor(
    name: str,
    *,
    data: Source,
    weights: str | None = None,
    weights_sha256: str | None = None,
    device: torch.device | str = "cpu",
) -> Extractor:
    """The extractor called `name`, on `device`, frozen; may train it or fetch its weights once, see
    docs/metrics.md.

    Every rank of a run calls it; a file lock makes one of them do the work.
    """
    if name not in EXTRACTORS:
        near = difflib.get_close_matches(name, EXTRACTORS, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(EXTRACTORS)}"
        raise UserError(f"metrics.extractor={name}: no such extractor; {hint}")
    where, _, what = EXTRACTORS[name].partition(":")
    kind: type[Extractor] = getattr(import_module(where), what)
    device = torch.device(device)
    extractor = kind.build(data=data, weights=weights, weights_sha256=weights_sha256, device=device)
    return extractor.to(device).eval().requires_grad_(False)


@contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """Float32 as such: no autocast, no TF32 (which moves an Inception FID in the third digit)."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = False
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
