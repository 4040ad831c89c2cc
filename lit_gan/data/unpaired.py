"""Two folders of images of two domains, in no relation to one another (CycleGAN: Zhu et al. 2017)."""

from __future__ import annotations

from typing import ClassVar

from lit_gan.data.pairs import PairData
from lit_gan.data.ragged import Listing, image_files
from lit_gan.errors import UserError


class Unpaired(PairData):
    """Domain A in `sources` and domain B in `path`: `source` and `image` of a batch are independent draws of the two.

    Each domain is shown in an order of its own, every image once before any comes again; so the smaller one is shown more
    often.
    """

    unpaired: ClassVar[bool] = True

    def __init__(
        self,
        *,
        path: str = "",  # images of the domain to translate to (B), a folder or zip
        sources: str = "",  # images of the domain to translate from (A), a folder or zip
        channels: int | None = None,  # of the images; null: as the files, alpha turned white
        source_channels: int | None = None,
        load_size: int | tuple[int, int] | None = None,  # resize to this, [height, width]; null: as they are
        load_side: int | None = None,  # or the shorter side to this, in proportion
        crop_size: int | tuple[int, int] | None = None,  # train on random parts of this size; null: on wholes
        flip: bool = True,  # mirror half of the images
        range: tuple[float, float] | None = None,  # of floats: what becomes -1 and 1; null: measured
        source_range: tuple[float, float] | None = None,
        test: str = "",  # images of B for grids and scores
        test_sources: str = "",  # images of A for grids and scores
        holdout: float = 0,  # images of each domain to hold out in place of data.test, or a share below 1
        max_images: int | None = None,  # train on so many of each domain, always the same; null: on all
        max_bad_share: float = 0.01,  # share of images that may fail to decode
        batch_size: int = 1,  # images of each domain per discriminator update, over all processes
        workers: int = 0,
    ) -> None:
        self.path, self.sources, self.test_sources = path, sources, test_sources
        if bool(test) != bool(test_sources):
            raise UserError("data.test and data.test_sources go together: folders of both domains")
        super().__init__(
            source_name=f"{sources} and {path}", channels=channels, source_channels=source_channels,
            load_size=load_size, load_side=load_side,
            crop_size=crop_size, flip=flip, range=range, source_range=source_range, test=test,
            holdout=holdout, max_bad_share=max_bad_share, batch_size=batch_size, workers=workers,
            max_images=max_images,
        )  # fmt: skip

    def _listings(self, *, test: bool) -> tuple[Listing | None, Listing]:
        if test:
            return image_files(self.test_sources, "data.test_sources"), image_files(self.test, "data.test")
        return image_files(self.sources, "data.sources"), image_files(self.path, "data.path")
