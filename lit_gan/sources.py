"""What a translator is shown where its fakes have numbers: the sources of the data that grids and scores read, in turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lit_gan.errors import UserError
from lit_gan.pictures import signed
from lit_gan.sampling import Batch

if TYPE_CHECKING:
    from lit_gan.data.base import ImageData
    from lit_gan.data.pairs import PairData
    from lit_gan.data.views import Whole
    from lit_gan.module import AdversarialModule


class Sources:
    """Fake number i is the translation of source i; with pairs it has image i for its real."""

    def __init__(self, data: Whole) -> None:
        self.data = data
        self.paired = data.part.paired

    @property
    def uneven(self) -> bool:
        """Whether the pictures differ in size, so that batches hold their centres."""
        return not self.data.part.even

    def whole(self, number: int) -> Batch:
        """Source and image of that number alone, [1, C, H, W] each, whole; the image as stored where it has 8 bits."""
        return self.data.whole(number % len(self))

    def __len__(self) -> int:
        return self.data.source_size

    def of(self, numbers: Sequence[int]) -> Tensor:
        """Sources [B, Cs, Hs, Ws] in [-1, 1] on the CPU."""
        return self.data.sources_at([number % len(self) for number in numbers])

    def images_at(self, numbers: Sequence[int]) -> Tensor:
        """Images [B, C, H, W] in [-1, 1]: what these should become where they are pairs, else the target's in turn."""
        return signed(self.data.real_batch(self.positions(numbers).tolist())["image"])

    def positions(self, numbers: Sequence[int]) -> NDArray[Any]:
        """Where in the data the image lies that each should become."""
        return np.asarray(numbers, dtype=np.int64) % self.data.size


def sources_of(module: AdversarialModule, data: ImageData) -> Sources | None:
    """The sources of `data` for a translator, None for a generator of noise."""
    return Sources(cast("Whole", data.held_out)) if module.translates else None


def check_sources(module: AdversarialModule, data: ImageData) -> None:
    """Raise a `UserError` where a translator cannot learn from what `data` pair, or from how they resize it."""
    if not module.translates:
        return
    pairs = cast("PairData", data)
    if module.needs_pairs and pairs.unpaired:
        raise UserError(
            f"{type(module).__name__} learns from pairs, and {data.source_name} is given as two domains: use data=paired, "
            "or arch=cyclegan or cut"
        )
    if module.reads_indices and pairs.blends_sources:
        raise UserError(
            f"sources of {data.source_name} are resized by bicubic and read as class indices, which it mixes: set "
            "data.nearest_sources=true (data=paired), or bring them to their size and leave data.load_size out"
        )


def fakes_of(module: AdversarialModule, wanted: int) -> int:
    """How many fakes a score is of: `wanted`, but of a translator no source twice."""
    return wanted if module.sources is None else min(wanted, len(module.sources))
