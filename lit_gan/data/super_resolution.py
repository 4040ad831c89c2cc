"""Images and what they were before they became large: made small on the device, or given (SRGAN: Ledig et al. 2017)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lit_gan.data.base import Batch
from lit_gan.data.pairs import PairData
from lit_gan.data.ragged import Listing, image_files
from lit_gan.errors import UserError
from lit_gan.metrics.pairs import matched


class SuperResolution(PairData):
    """Images of a folder, and sources `scale` times smaller, cut in whole pixels of the source.

    Sources are made by bicubic with antialias, or by the degradations of Real-ESRGAN (whose JPEG has 8 bits whatever the
    images have), and rounded to the levels of the images' depth as if they came from files; or they are files of equal
    names in `sources`.
    """

    def __init__(
        self,
        *,
        path: str = "",  # the large images, a folder or zip
        sources: str = "",  # the small ones; empty: made from the large ones
        scale: int = 4,  # sides of an image over those of its source
        degradation: Literal["bicubic", "real-esrgan"] = "bicubic",  # how small images are made
        channels: int | None = None,  # of the images; null: as the files, alpha turned white
        source_channels: int | None = None,  # of small images that are given
        crop_size: int | tuple[int, int] | None = 96,  # of the large images; null: train on wholes
        flip: bool = True,  # mirror half of the images
        turn: bool = True,  # turn them by 0, 90, 180 or 270 degrees
        range: tuple[float, float] | None = None,  # of floats: what becomes -1 and 1; null: measured
        source_range: tuple[float, float] | None = None,  # of small images that are given
        test: str = "",  # large images for grids and scores
        test_sources: str = "",  # the small ones of data.test where data.sources is given
        holdout: float = 0,  # images to hold out in place of data.test, or a share below 1
        max_images: int | None = None,  # train on so many, always the same; null: on all
        max_bad_share: float = 0.01,  # share of images that may fail to decode
        batch_size: int = 16,  # images per discriminator update, over all processes
        workers: int = 0,
    ) -> None:
        if scale < 2:
            raise UserError(f"data.scale={scale} makes nothing larger; use 2, 3, 4 or 8")
        if test and bool(sources) != bool(test_sources):
            raise UserError("data.sources and data.test_sources go together: folders of small images")
        if not sources and (source_channels is not None or source_range is not None):
            raise UserError("data.source_channels and data.source_range are of small images in data.sources")
        self.path, self.sources, self.test_sources = path, sources, test_sources
        self.degradation = degradation
        super().__init__(
            source_name=path, channels=channels, source_channels=source_channels, load_size=None, crop_size=crop_size,
            flip=flip, turn=turn, range=range, source_range=source_range, test=test, holdout=holdout,
            max_bad_share=max_bad_share, batch_size=batch_size, workers=workers, scale=scale,
            settings=[degradation],
            max_images=max_images,
        )  # fmt: skip

    def _listings(self, *, test: bool) -> tuple[Listing | None, Listing]:
        large = image_files(self.test, "data.test") if test else image_files(self.path, "data.path")
        if not self.sources:
            return None, large
        small = image_files(
            *((self.test_sources, "data.test_sources") if test else (self.sources, "data.sources"))
        )
        return small, large.chosen(matched(small, large))

    def _made(self, image: Tensor, batch: Batch) -> Tensor:
        if self.degradation == "bicubic":
            return self.levels(smaller(image, self.scale))
        from lit_gan.degradation import degrade

        generator = torch.Generator(image.device)
        levels = 255 if self.image_dtype == np.uint8 else None  # others are rounded below, at their own depth
        unit, results = (image + 1) / 2, []
        for one, word in zip(
            unit, batch["word"].tolist(), strict=True
        ):  # each by its own draws, whatever its rank
            generator.manual_seed(word)
            results.append(degrade(one[None], self.scale, generator, levels=levels))
        return self.levels(torch.cat(results) * 2 - 1)


def smaller(images: Tensor, scale: int) -> Tensor:
    """Images [B, C, H, W] at 1 / scale of their size by bicubic (a = -0.5) with antialias, as Pillow's; not rounded."""
    size = (images.shape[2] // scale, images.shape[3] // scale)
    return F.interpolate(images, size=size, mode="bicubic", align_corners=False, antialias=True)
