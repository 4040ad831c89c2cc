"""Images with holes, and what was there (Pathak et al. 2016, arXiv:1604.07379); the holes are those of masks.py."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lit_gan.data.base import Batch
from lit_gan.data.pairs import PairData
from lit_gan.data.ragged import Listing, image_files


class Inpainting(PairData):
    """Images of a folder; a source is the image with 0 in a random hole, and last the mask, 1 there and else -1.

    Held-out images have the same holes every time.
    """

    def __init__(
        self,
        *,
        path: str = "",  # the images, a folder or zip
        holes: Literal["boxes", "strokes", "mixed"] = "mixed",  # what is cut out
        channels: int | None = None,  # of the images; null: as the files, alpha turned white
        load_size: int | tuple[int, int] | None = None,  # resize to this, [height, width]; null: as they are
        load_side: int | None = None,  # or the shorter side to this, in proportion
        crop_size: int | tuple[int, int] | None = None,  # train on random parts of this size; null: on wholes
        flip: bool = True,  # mirror half of the images
        range: tuple[float, float] | None = None,  # of floats: what becomes -1 and 1; null: measured
        test: str = "",  # images for grids and scores
        holdout: float = 0,  # images to hold out in place of data.test, or a share below 1
        max_images: int | None = None,  # train on so many, always the same; null: on all
        max_bad_share: float = 0.01,  # share of images that may fail to decode
        batch_size: int = 16,  # images per discriminator update, over all processes
        workers: int = 0,
    ) -> None:
        self.path = path
        super().__init__(
            source_name=path, channels=channels, load_size=load_size, load_side=load_side,
            crop_size=crop_size, flip=flip, mask=holes,
            range=range, source_range=None, test=test, holdout=holdout, max_bad_share=max_bad_share,
            batch_size=batch_size, workers=workers,
            max_images=max_images,
        )  # fmt: skip

    def _listings(self, *, test: bool) -> tuple[Listing | None, Listing]:
        return None, image_files(self.test, "data.test") if test else image_files(self.path, "data.path")

    def _made(self, image: Tensor, batch: Batch) -> Tensor:
        mask = batch["mask"].to(image)  # [B, 1, H, W], 1 in the hole
        return torch.cat([image * (1 - mask), mask * 2 - 1], dim=1)

    def made_channels(self) -> int:
        return self.part.image.channels + 1
