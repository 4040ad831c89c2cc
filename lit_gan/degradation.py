"""Small images as the net has them: blur, resizing, noise and JPEG, twice (Wang et al. 2021, arXiv:2107.10833, section 3).

The settings are those of Real-ESRGAN's code. Every image has all of its own, sizes on the way too; there a batch shares
them, and a pool of 180 pairs mixes the batches, which is not needed here. On the device of the images; what is drawn is
a function of the generator alone. Bicubic and bilinear resizing has no antialias between the stages, as there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lit_gan.blur import Shape, bell, filtered, sharpened, sinc
from lit_gan.jpeg import compressed

NUMBERS = 64  # uniform numbers that an image's settings are made of, more than are used
SIZES = tuple(range(7, 22, 2))  # of kernels
BELLS: tuple[tuple[Shape, bool], ...] = (  # and whether both axes have one deviation
    ("gaussian", True),
    ("gaussian", False),
    ("generalized", True),
    ("generalized", False),
    ("plateau", True),
    ("plateau", False),
)
BELL_SHARES = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
MODES = ("area", "bilinear", "bicubic")
Range = tuple[float, float]


@dataclass(frozen=True)
class Stage:
    """One pass of blur, resizing, noise and JPEG; shares are probabilities."""

    blur: float = 1.0
    sinc: float = 0.1  # of the blurs
    sigma: Range = (0.2, 3.0)  # pixels
    beta_generalized: Range = (0.5, 4.0)
    beta_plateau: Range = (1.0, 2.0)
    up: float = 0.2
    down: float = 0.7  # else the size stays
    factor: Range = (0.15, 1.5)  # smallest and largest
    noise: float = 1.0
    gaussian: float = 0.5  # of the noises, else Poisson's
    gaussian_sigma: Range = (1.0, 30.0)  # grey levels
    poisson_scale: Range = (0.05, 3.0)
    grey: float = 0.4  # of the noises: one for all channels
    jpeg: float = 1.0
    quality: Range = (30.0, 95.0)


@dataclass(frozen=True)
class Degradation:
    """Two stages, the second's sizes relative to the small image, and a last sinc filter before or after its JPEG."""

    sharpen: bool = True  # the large image, first
    first: Stage = Stage()
    second: Stage = Stage(
        blur=0.8,
        sigma=(0.2, 1.5),
        up=0.3,
        down=0.4,
        factor=(0.3, 1.2),
        gaussian_sigma=(1.0, 25.0),
        poisson_scale=(0.05, 2.5),
    )
    last_sinc: float = 0.8
    modes: tuple[str, ...] = MODES


REAL_ESRGAN = Degradation()
_NOTHING = Stage(blur=0.0, up=0.0, down=0.0, noise=0.0, jpeg=0.0)
NONE = Degradation(  # at strength zero: bicubic with antialias
    sharpen=False, first=_NOTHING, second=_NOTHING, last_sinc=0.0, modes=("bicubic-antialias",)
)


class Draws:
    """The settings of one image, from uniform numbers in [0, 1)."""

    def __init__(self, numbers: Sequence[float]) -> None:
        self._numbers = iter(numbers)

    def uniform(self, between: Range) -> float:
        low, high = between
        return low + (high - low) * next(self._numbers)

    def happens(self, share: float) -> bool:
        return next(self._numbers) < share

    def index(self, shares: Sequence[float]) -> int:
        """The place of one of `shares`, each with its probability; they sum to 1."""
        at, below = next(self._numbers), 0.0
        for place, share in enumerate(shares):
            below += share
            if at < below:
                return place
        return len(shares) - 1

    def one_of(self, count: int) -> int:
        return min(int(next(self._numbers) * count), count - 1)


@torch.no_grad()
def degrade(
    images: Tensor,
    scale: int,
    generator: torch.Generator,
    how: Degradation = REAL_ESRGAN,
    *,
    levels: int | None = 255,
) -> Tensor:
    """Images [B, C, H, W] in [0, 1] -> [B, C, H // scale, W // scale], in whole `levels` over `levels`.

    With None what the last filter makes is neither rounded nor cut, and may overshoot [0, 1]. Noise and JPEG on the way cut
    it at 0 and 1, and JPEG knows 255 levels, whatever `levels` are.
    """
    numbers = torch.rand(
        len(images), NUMBERS, generator=generator, device=generator.device, dtype=torch.float64
    )
    made = [
        _degraded(image[None].float(), scale, Draws(row), generator, how)
        for image, row in zip(images, numbers.tolist(), strict=True)
    ]
    small = torch.cat(made)
    return small if levels is None else (small.clamp(0, 1) * levels).round() / levels


def _degraded(
    image: Tensor, scale: int, draws: Draws, generator: torch.Generator, how: Degradation
) -> Tensor:
    height, width = image.shape[2:]
    small = (height // scale, width // scale)
    h = sharpened(image) if how.sharpen else image
    for stage, (rows, columns) in ((how.first, (height, width)), (how.second, small)):
        if draws.happens(stage.blur):
            h = filtered(h, drawn_kernel(stage, draws))
        factor = drawn_factor(stage, draws)
        mode = how.modes[draws.one_of(len(how.modes))]
        h = resized(h, (max(round(rows * factor), 1), max(round(columns * factor), 1)), mode)
        if draws.happens(stage.noise):
            h = noisy(h, stage, draws, generator)
        if stage is how.first:
            h = _jpeg(h, stage, draws)
    mode = how.modes[draws.one_of(len(how.modes))]
    kernel = drawn_sinc(draws, (math.pi / 3, math.pi)) if draws.happens(how.last_sinc) else None
    if draws.happens(0.5):
        return _jpeg(_last(h, small, mode, kernel), how.second, draws)
    return _last(_jpeg(h, how.second, draws), small, mode, kernel)


def _last(image: Tensor, size: tuple[int, int], mode: str, kernel: Tensor | None) -> Tensor:
    """The resize to the final size, and the filter of ringing and overshoot."""
    small = resized(image, size, mode)
    return small if kernel is None else filtered(small, kernel)


def _jpeg(image: Tensor, stage: Stage, draws: Draws) -> Tensor:
    quality = draws.uniform(stage.quality)
    if not draws.happens(stage.jpeg):
        return image
    return compressed(image, torch.tensor([quality], device=image.device))


def drawn_kernel(stage: Stage, draws: Draws) -> Tensor:
    """The blur of a stage: a bell of one of six kinds, or now and then a low-pass that rings."""
    size = SIZES[draws.one_of(len(SIZES))]
    if draws.happens(stage.sinc):
        lowest = math.pi / 3 if size < 13 else math.pi / 5
        return sinc(size, draws.uniform((lowest, math.pi)))
    shape, round_ = BELLS[draws.index(BELL_SHARES)]
    sigma_x, sigma_y = draws.uniform(stage.sigma), draws.uniform(stage.sigma)
    angle = draws.uniform((-math.pi, math.pi))
    beta = draws.uniform(stage.beta_plateau if shape == "plateau" else stage.beta_generalized)
    return bell(size, sigma_x, sigma_x if round_ else sigma_y, angle, shape=shape, beta=beta)


def drawn_sinc(draws: Draws, cutoff: Range) -> Tensor:
    """A low-pass of any size."""
    return sinc(SIZES[draws.one_of(len(SIZES))], draws.uniform(cutoff))


def drawn_factor(stage: Stage, draws: Draws) -> float:
    """How many times as long the sides become."""
    low, high = stage.factor
    way = draws.index((stage.up, stage.down, 1 - stage.up - stage.down))
    return draws.uniform(((1.0, high), (low, 1.0), (1.0, 1.0))[way])


def resized(image: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """An image [1, C, H, W] as [1, C, h, w]; bicubic may overshoot [0, 1]."""
    if tuple(image.shape[2:]) == size:
        return image
    if mode == "area":
        return F.interpolate(image, size, mode="area")
    name, _, antialias = mode.partition("-")
    return F.interpolate(image, size, mode=name, align_corners=False, antialias=bool(antialias))


def noisy(image: Tensor, stage: Stage, draws: Draws, generator: torch.Generator) -> Tensor:
    """An image with Gaussian or Poisson noise, of each channel or of all alike, in [0, 1]."""
    gaussian, grey = draws.happens(stage.gaussian), draws.happens(stage.grey)
    strength = draws.uniform(stage.gaussian_sigma if gaussian else stage.poisson_scale)
    if gaussian:
        shape = (1, 1 if grey else image.shape[1], *image.shape[2:])
        field = torch.randn(shape, generator=generator, device=generator.device).to(image.device)
        return (image + strength / 255 * field).clamp(0, 1)
    light = (image.clamp(0, 1) * 255).round() / 255
    if grey:
        light = brightness(light)
    # as many photons for white as the next power of two above the number of levels in the image
    photons = 2.0 ** math.ceil(math.log2(len(torch.unique(light))))
    counted = torch.poisson((light * photons).to(generator.device), generator=generator).to(image.device)
    return (image + strength * (counted / photons - light)).clamp(0, 1)


def brightness(image: Tensor) -> Tensor:
    """[1, C, H, W] -> [1, 1, H, W]: the luminance of colours, else the mean of the channels."""
    if image.shape[1] != 3:
        return image.mean(1, keepdim=True)
    weights = image.new_tensor((0.299, 0.587, 0.114))
    return torch.einsum("c,bchw->bhw", weights, image)[:, None]
