"""Mean LPIPS between random fakes: how much a generator varies, beside how much the data do.

Used so since Zhu et al. 2017 ("Toward multimodal image-to-image translation", arXiv:1711.11586), there among outputs
of one input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from torch import Tensor

from lit_gan.metrics.paired import plain
from lit_gan.metrics.sums import MeanMetric

if TYPE_CHECKING:
    from typing_extensions import Self

    from lit_gan.metrics.extractors import Network, Source
    from lit_gan.metrics.lpips import Distance, PerceptualNetwork


class LPIPSDiversity(MeanMetric):
    """`update(first, second)`, images [B, C, H, W] each; `compute()` their mean distance, a float64 scalar.

    `evaluate` takes fakes 2p and 2p + 1 for a pair, and the floor is the same of as many random reals. Higher is
    better up to that value; beyond it lies noise. `distance` as for `LPIPS`.
    """

    higher_is_better: bool = True
    plot_lower_bound: float = 0.0
    takes = "images"
    network = "lpips"
    smallest = 2

    def __init__(self, distance: Distance, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.distance = plain(distance)

    @classmethod
    def build_for(cls, data: Source, network: Network, samples: int) -> Self:
        return cls(cast("Distance", network), sync_on_compute=False)

    @classmethod
    def lacks(cls, data: Source, network: Network, fakes: int) -> str:
        return cast("PerceptualNetwork", network).lacks(data)

    @classmethod
    def settings(cls, samples: int) -> str:
        return f"{samples // 2} random pairs"

    def update(self, first: Tensor, second: Tensor) -> None:
        """Adds pairs; B may be 0."""
        if len(first):
            self.take(self.distance(first, second))

    def add_images(self, images: Tensor, indices: Tensor) -> None:
        first, second = images[indices % 2 == 0], images[indices % 2 == 1]
        self.update(first[: len(second)], second)  # the last of an odd number has no partner
