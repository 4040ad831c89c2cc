"""Extractors turn images into features, and into logits where they classify; a score is as good as its
extractor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_gan.errors import UserError, nearest
from lit_gan.metrics import EXTRACTORS

if TYPE_CHECKING:
    from typing_extensions import Self


class Source(Protocol):
    """What scores need of a data source, after its `prepare()`."""

    @property
    def images(self) -> np.ndarray[Any, Any]: ...  # [N, H, W, C], uint8 or (toy points) float32

    @property
    def labels(self) -> np.ndarray[Any, Any] | None: ...  # classes [N] int64, or vectors [N, K] float32

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


class Network(nn.Module):
    """What scores are made with, for the protocol; as it stands, nothing. Always in eval mode."""

    name: str = "none"
    dim: int = 0  # D
    num_logits: int = 0  # K; 0: no logits
    weights_hash: str = "none"  # sha256
    resize: str = "none"  # in words, for the protocol
    reference: np.ndarray[Any, Any] | None = None  # which of the data to compare with; None: all

    def train(self, mode: bool = True) -> Self:
        return super().train(False)


class Extractor(Network):
    """Base of extractors: `forward(images uint8 [B, C, H, W]) -> (features [B, D], logits [B, K] or None)`.

    Always in eval mode, frozen, in float32 without autocast or TF32, without gradients. A subclass sets the
    attributes and gives `extract` and `build`. Float images are taken only by extractors that say so.
    """

    name: str  # in EXTRACTORS
    dim: int  # D
    data_classes: bool = False  # whether the logits are over the data's own classes
    resize: str
    resizes: ClassVar[Mapping[str, str]] = {}  # what metrics.resize may be, and how `resize` calls it

    @property
    def has_logits(self) -> bool:
        return self.num_logits > 0

    @classmethod
    def build(
        cls, *, data: Source, weights: str | None, weights_sha256: str | None, device: torch.device
    ) -> Extractor:
        """The extractor for this data, on the CPU; `device` is where expensive preparations may run."""
        raise NotImplementedError

    @classmethod
    def of(cls, model: str) -> type[Extractor]:
        """The class for one model of a family (`FAMILY:NAME` in EXTRACTORS)."""
        raise NotImplementedError

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """The features and logits themselves."""
        raise NotImplementedError

    def choose_resize(self, choice: str) -> None:
        """Resizes by one of `resizes` from now on."""
        self.resize = self.resizes[choice]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        with torch.no_grad(), exact_float32(images.device):
            return self.extract(images)


def build_extractor(
    name: str,
    *,
    data: Source,
    weights: str | None = None,
    weights_sha256: str | None = None,
    resize: str | None = None,
    device: torch.device | str = "cpu",
) -> Extractor:
    """The extractor called `name`, on `device`, frozen; may train it or fetch its weights once, see
    docs/metrics.md.

    `resize` is one of the extractor's `resizes`; None is its own default. Every rank of a run calls it; a file lock
    makes one of them do the work.
    """
    kind = extractor_class(name)
    if resize is not None and resize not in kind.resizes:
        choices = f"it has {', '.join(kind.resizes)}" if kind.resizes else "it has one way only, leave it out"
        raise UserError(f"metrics.resize={resize}: not with metrics.extractor={name}; {choices}")
    device = torch.device(device)
    extractor = kind.build(data=data, weights=weights, weights_sha256=weights_sha256, device=device)
    if resize is not None:
        extractor.choose_resize(resize)
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


def extractor_class(name: str) -> type[Extractor]:
    """The class that EXTRACTORS has under this name; `timm:NAME` is the model NAME of the library timm."""
    family, colon, model = name.partition(":")
    key = f"{family}:NAME" if colon else name
    if key not in EXTRACTORS:
        raise UserError(f"metrics.extractor={name}: no such extractor; {nearest(name, EXTRACTORS)}")
    where, _, what = EXTRACTORS[key].partition(":")
    kind: type[Extractor] = getattr(import_module(where), what)
    return kind.of(model) if colon else kind


def check_pictures(name: str, data: Source) -> None:
    """Raises the UserError for data that are no pictures: what `as_rgb` takes is uint8 of 1, 3 or 4 channels."""
    channels = data.image_shape[0]
    if channels not in {1, 3, 4} or data.images.dtype != np.uint8:
        raise UserError(
            f"metrics.extractor={name}: reads images of 1, 3 or 4 channels, the data have {channels} of type "
            f"{data.images.dtype}; use metrics.extractor=pixels"
        )


def range_of(data: Source) -> tuple[float, float] | None:
    """The stored values that became -1 and 1, of images of more than 8 bits; None for others, and for no images."""
    limits: tuple[float, float] | None = getattr(data, "image_range", None)
    return None if data.images.dtype == np.uint8 else limits


def lacks_levels(data: Source) -> str:
    """What a metric that compares grey levels says of data that have none, to be read after its name; else ""."""
    stored = data.images.dtype
    return (
        ""
        if stored == np.uint8 or range_of(data) is not None
        else f"compares images in grey levels, the data are of type {stored}: use images"
    )


def as_rgb(images: Tensor) -> Tensor:
    """uint8 [B, 1|3|4, H, W] -> uint8 [B, 3, H, W]: grey is repeated, RGBA laid over black."""
    if images.shape[1] == 1:
        return images.expand(-1, 3, -1, -1)
    if images.shape[1] == 4:
        colour, alpha = images[:, :3].float(), images[:, 3:].float() / 255
        return (colour * alpha).round().to(torch.uint8)
    return images


def resized(images: Tensor, size: tuple[int, int], interpolation: str = "bicubic") -> Tensor:
    """[B, C, H, W] grey levels -> float32 [B, C, h, w] in [0, 255], antialiased and not rounded.

    Bicubic it is what clean-fid does (Parmar et al. 2022, arXiv:2104.11222), Pillow's filter on float32 channels, to
    0.01 grey levels on white noise; as there, an image of the right size stays as it is.
    """
    images = images.float()
    if tuple(images.shape[2:]) == size:
        return images
    return F.interpolate(images, size, mode=interpolation, antialias=True, align_corners=False).clamp(0, 255)


def resized_to_levels(images: Tensor, size: tuple[int, int], interpolation: str = "bicubic") -> Tensor:
    """As `resized`, but in whole grey levels, as Pillow does it with an RGB image: it rounds after either direction."""
    across = resized(images, (images.shape[2], size[1]), interpolation)
    return resized((across + 0.5).floor(), size, interpolation).add(0.5).floor()
