"""Colour images and their luminance (Isola et al. 2017, section 3: black and white to colour, here in RGB)."""

from __future__ import annotations

from torch import Tensor

from lit_gan.data.base import Batch
from lit_gan.data.pairs import PairData
from lit_gan.data.ragged import Listing, image_files


class Colorization(PairData):
    """Colour images of a folder; a source is the luminance (ITU-R 601), one channel, rounded as in a grey file."""

    def __init__(
        self,
        *,
        path: str = "",  # the images, a folder or zip
        load_size: int | tuple[int, int] | None = None,  # resize to this, [height, width]; null: as they are
        load_side: int | None = None,  # or the shorter side to this, in proportion
        crop_size: int | tuple[int, int] | None = None,  # train on random parts of this size; null: on wholes
        flip: bool = True,  # mirror half of the images
        range: tuple[float, float] | None = None,  # of floats: what becomes -1 and 1; null: measured
        test: str = "",  # images for grids and scores
        holdout: float = 0,  # images to hold out in place of data.test, or a share below 1
        max_images: int | None = None,  # train on so many, always the same; null: on all
        max_bad_share: float = 0.01,  # share of images that may fail to decode
        batch_size: int = 1,  # images per discriminator update, over all processes
        workers: int = 0,
    ) -> None:
        self.path = path
        super().__init__(
            source_name=path, channels=3, load_size=load_size, load_side=load_side,
            crop_size=crop_size, flip=flip, range=range, test=test,
            holdout=holdout, max_bad_share=max_bad_share, batch_size=batch_size, workers=workers,
            max_images=max_images,
        )  # fmt: skip

    def _listings(self, *, test: bool) -> tuple[Listing | None, Listing]:
        return None, image_files(self.test, "data.test") if test else image_files(self.path, "data.path")

    def _made(self, image: Tensor, batch: Batch) -> Tensor:
        weights = image.new_tensor([0.299, 0.587, 0.114])
        return self.levels((image * weights[:, None, None]).sum(dim=1, keepdim=True))

    def made_channels(self) -> int:
        return 1
