"""Images against those that they should be, one to one: `psnr`, `ssim`, `ms-ssim` and `lpips`, means over the pairs.

For image-to-image and restoration, never for a generator of noise. On grey levels from 0 to 255, all channels alike: those
of 8 bits as they are, of others the range that became [-1, 1], made 255 wide and neither rounded nor cut. `psnr-y` and
`ssim-y` are what papers on super-resolution measure: of the luminance alone, without a border as wide as the scale. SSIM is
that of Wang et al. 2004 with the 11 x 11 Gaussian window where it lies wholly inside the image, as in their code;
torchmetrics pads the image. MS-SSIM is that of Wang, Simoncelli & Bovik 2003, taken per channel as TensorFlow does it.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_gan.metrics.extractors import lacks_levels, range_of
from lit_gan.metrics.sums import MeanMetric

if TYPE_CHECKING:
    import numpy as np
    from typing_extensions import Self

    from lit_gan.metrics.extractors import Network, Source
    from lit_gan.metrics.lpips import Distance, PerceptualNetwork

RANGE = 255.0
ROUNDING = 1 / 12  # squared error of rounding to whole numbers
FLOAT_STEPS = 2.0**24  # of float32 between the ends of a range
TAPS, SIGMA = 11, 1.5  # of the window
C1, C2 = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2
LUMINANCE = (65.481, 128.553, 24.966)  # of ITU-R BT.601, on [0, 1]: with the 16 of black it spans 16 to 235
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # weights, finest first


@dataclass(frozen=True)
class Depth:
    """What images are stored as: `steps` from black to white, and the values of these two where they are not 0 and 255."""

    steps: float = RANGE
    range: tuple[float, float] | None = None

    @classmethod
    def of(cls, data: Source) -> Depth:
        limits = range_of(data)
        if limits is None:
            return cls()
        dtype: np.dtype[Any] = data.images.dtype
        return cls(limits[1] - limits[0] if dtype.kind == "u" else FLOAT_STEPS, limits)

    @property
    def words(self) -> str:
        """For the protocol, after what else decides a value."""
        return "" if self.range is None else f", of {self.range[0]:g} to {self.range[1]:g}"


class _Paired(MeanMetric):
    """`update(fake, real)`, uint8 [B, C, H, W] each, or floats in [-1, 1]; `compute()` the mean over the pairs, float64 [].

    `depth` is what floats are stored as.
    """

    takes = "pairs"
    network: ClassVar[Literal["extractor", "lpips", "none"]] = "none"
    side = 1  # smallest side that a window fits into

    def __init__(self, *, depth: Depth | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.depth = depth or Depth()

    @abstractmethod
    def measure(self, fake: Tensor, real: Tensor) -> Tensor:
        """The numbers [B] of as many pairs."""

    @classmethod
    def build_for(cls, data: Source, network: Network, samples: int) -> Self:
        return cls(depth=Depth.of(data), sync_on_compute=False)

    def described(self, samples: int) -> str:
        return (self.settings(samples) + self.depth.words).removeprefix(", ")

    @classmethod
    def lacks(cls, data: Source, network: Network, fakes: int) -> str:
        side = min(data.image_shape[1:])
        if side < cls.side:
            return f"needs images of at least {cls.side} pixels a side, the data have {side}: use larger ones"
        return lacks_levels(data)

    def update(self, fake: Tensor, real: Tensor) -> None:
        """Adds pairs; B may be 0."""
        known = fake.dtype == torch.uint8 or fake.is_floating_point()
        if fake.shape != real.shape or fake.ndim != 4 or fake.dtype != real.dtype or not known:
            got = " and ".join(f"{image.dtype} {tuple(image.shape)}" for image in (fake, real))
            raise ValueError(
                f"fake and real must be uint8, or floats in [-1, 1], [B, C, H, W] alike, got {got}"
            )
        if len(fake):
            self.take(self.measure(self.levels(fake), self.levels(real)))

    def levels(self, images: Tensor) -> Tensor:
        """What `measure` is given: grey levels of 255, uint8 or float64."""
        return images if images.dtype == torch.uint8 else (images.to(self.device).double() + 1) * (RANGE / 2)

    def add_pairs(self, fake: Tensor, real: Tensor) -> None:
        self.update(fake, real)


class PSNR(_Paired):
    """Peak signal-to-noise ratio in dB, the mean of the images' own.

    The squared error of an image counts as that of rounding at least, 1 / 12 of a squared step of its depth: equal images
    of 8 bits have 58.9 dB and not infinitely many, of 16 bits 107.1 (less where the range is a part of them), floats 155.3.
    """

    higher_is_better: bool = True
    plot_lower_bound: float = 0.0

    @property
    def least(self) -> float:
        """The squared error, in grey levels, that an image has at least."""
        return (RANGE / self.depth.steps) ** 2 * ROUNDING

    @classmethod
    def settings(cls, samples: int) -> str:
        return "mean of images"

    def described(self, samples: int) -> str:
        most = 10 * math.log10(RANGE**2 / self.least)
        return f"{self.settings(samples)}, at most {most:.1f} dB{self.depth.words}"

    def measure(self, fake: Tensor, real: Tensor) -> Tensor:
        fake, real = fake.to(self.device).double(), real.to(self.device).double()
        error = (fake - real).square().mean((1, 2, 3)).clamp_min(self.least)
        return 10 * (RANGE**2 / error).log10()


class SSIM(_Paired):
    """Structural similarity, at most 1, which equal images have."""

    higher_is_better: bool = True
    plot_upper_bound: float = 1.0
    side = TAPS

    @classmethod
    def settings(cls, samples: int) -> str:
        return f"window {TAPS}, sigma {SIGMA:g}, inside the image, mean of channels"

    def measure(self, fake: Tensor, real: Tensor) -> Tensor:
        whole, _ = similarity(fake.to(self.device).double(), real.to(self.device).double())
        return whole.mean(1)


class MSSSIM(SSIM):
    """Multi-scale structural similarity, in [0, 1]; of images of 176 pixels a side at least.

    At the coarsest of the five scales the window must fit, and 160 pixels, which is often said, do not do.
    """

    plot_lower_bound: float = 0.0
    side = TAPS * 2 ** (len(SCALES) - 1)

    @classmethod
    def settings(cls, samples: int) -> str:
        return f"{len(SCALES)} scales, {super().settings(samples)}"

    def measure(self, fake: Tensor, real: Tensor) -> Tensor:
        fake, real = fake.to(self.device).double(), real.to(self.device).double()
        product = fake.new_ones(fake.shape[:2])
        for scale, weight in enumerate(SCALES, 1):
            whole, structure = similarity(fake, real)
            # below 0 the images are each other's negatives, and a power would be NaN
            product = product * (whole if scale == len(SCALES) else structure).clamp_min(0) ** weight
            fake, real = F.avg_pool2d(fake, 2), F.avg_pool2d(real, 2)
        return product.mean(1)


class _Luminance(_Paired):
    """Of Y alone, `border` pixels cut off at each side of the images."""

    def __init__(self, border: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.border = border

    @classmethod
    def build_for(cls, data: Source, network: Network, samples: int) -> Self:
        return cls(border_of(data), depth=Depth.of(data), sync_on_compute=False)

    @classmethod
    def lacks(cls, data: Source, network: Network, fakes: int) -> str:
        channels, *sides = data.image_shape
        if channels not in (1, 3, 4):
            return f"takes the luminance of grey or colour images, the data have {channels} channels: leave it out"
        if min(sides) - 2 * border_of(data) < cls.side:
            return (
                f"needs images of at least {cls.side + 2 * border_of(data)} pixels a side with its border, the data "
                f"have {min(sides)}: use larger ones, or metrics.border=0"
            )
        return lacks_levels(data)

    def described(self, samples: int) -> str:
        return f"Y of BT.601, border {self.border}, {super().described(samples)}"

    def update(self, fake: Tensor, real: Tensor) -> None:
        if min(fake.shape[2:]) - 2 * self.border < self.side:
            raise ValueError(
                f"no {self.side} pixels are left of {tuple(fake.shape)} without a border of {self.border}"
            )
        super().update(fake, real)

    def shown(self, images: Tensor) -> Tensor:
        """What is compared of grey levels [B, C, H, W]: float64 [B, 1, H - 2 border, W - 2 border]."""
        cut = slice(self.border, -self.border or None)
        return luminance(images.to(self.device)[..., cut, cut])


class PSNRY(_Luminance, PSNR):
    """`PSNR` of the luminance, as papers on super-resolution give it."""

    def measure(self, fake: Tensor, real: Tensor) -> Tensor:
        return super().measure(self.shown(fake), self.shown(real))


class SSIMY(_Luminance, SSIM):
    """`SSIM` of the luminance, as papers on super-resolution give it."""

    def measure(self, fake: Tensor, real: Tensor) -> Tensor:
        return super().measure(self.shown(fake), self.shown(real))


class LPIPS(_Paired):
    """The learned perceptual distance (Zhang et al. 2018), 0 for equal images.

    `distance(fake, real)` gives the distances [B] of uint8 images, or of floats in [-1, 1], as a `PerceptualNetwork` does.
    """

    higher_is_better: bool = False
    plot_lower_bound: float = 0.0
    network = "lpips"

    def __init__(self, distance: Distance, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.distance = plain(distance)

    @classmethod
    def build_for(cls, data: Source, network: Network, samples: int) -> Self:
        return cls(cast("Distance", network), depth=Depth.of(data), sync_on_compute=False)

    @classmethod
    def lacks(cls, data: Source, network: Network, fakes: int) -> str:
        return cast("PerceptualNetwork", network).lacks(data)

    def levels(self, images: Tensor) -> Tensor:
        return images  # the network takes both

    def measure(self, fake: Tensor, real: Tensor) -> Tensor:
        return self.distance(fake, real)


def border_of(data: Source) -> int:
    """The pixels that are cut off at each side of images of `data`."""
    return int(getattr(data, "border", 0))


def luminance(images: Tensor) -> Tensor:
    """Y in grey levels, as MATLAB's rgb2ycbcr but not rounded: grey levels [B, C, H, W] -> float64 [B, 1, H, W].

    Grey images are it already; alpha counts for nothing.
    """
    if images.shape[1] == 1:
        return images.double()
    weights = torch.tensor(LUMINANCE, dtype=torch.float64, device=images.device) / RANGE
    return 16 + (images[:, :3].double() * weights.view(3, 1, 1)).sum(1, keepdim=True)


def similarity(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM and its factor of contrast and structure (eq. 12 of the paper without l) of images [B, C, H, W]: [B, C]."""
    mean_x, mean_y = _windowed(x), _windowed(y)
    variances = _windowed(x.square()) - mean_x.square() + _windowed(y.square()) - mean_y.square()
    covariance = _windowed(x * y) - mean_x * mean_y
    structure = (2 * covariance + C2) / (variances + C2)
    luminance = (2 * mean_x * mean_y + C1) / (mean_x.square() + mean_y.square() + C1)
    return (luminance * structure).mean((2, 3)), structure.mean((2, 3))


def plain(distance: Distance) -> Distance:
    """A network as a function: as an attribute it would be part of the metric, its state and its device."""
    return distance.forward if isinstance(distance, nn.Module) else distance


def _windowed(maps: Tensor) -> Tensor:
    """Means under the Gaussian window, wherever it lies inside: [B, C, H, W] -> [B, C, H - 10, W - 10]."""
    at = torch.arange(TAPS, dtype=maps.dtype, device=maps.device) - TAPS // 2
    weights = torch.softmax(-at.square() / (2 * SIGMA**2), 0)
    flat = maps.flatten(0, 1)[:, None]
    return F.conv2d(F.conv2d(flat, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1)).view(
        *maps.shape[:2], maps.shape[2] - TAPS + 1, maps.shape[3] - TAPS + 1
    )
