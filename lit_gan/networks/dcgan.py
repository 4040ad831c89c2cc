"""The networks of DCGAN (Radford et al. 2016, arXiv:1511.06434): strided convolutions and batch norm.

Kernels of 4 instead of the paper's 5, as every later implementation has them: no checkerboard. `variant` is named in
the error where an image is too small.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from lit_gan.networks.conv import channels_last
from lit_gan.networks.logits import Logits
from lit_gan.networks.shape import pyramid


class Generator(nn.Sequential):
    """[B, Z] -> [B, C, H, W] in [-1, 1]; `width` maps below the image, twice as many at each halving."""

    def __init__(
        self, image_shape: tuple[int, int, int], latent_dim: int, width: int, *, variant: str = "dcgan"
    ) -> None:
        base = pyramid(image_shape, variant=variant)
        widths = [width << stage for stage in reversed(range(base.stages))]  # e.g. 256, 128, 64
        layers: list[nn.Module] = [
            nn.Linear(latent_dim, widths[0] * base.height * base.width, bias=False),  # "project and reshape"
            nn.Unflatten(1, (widths[0], base.height, base.width)),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        ]
        for w_in, w_out in pairwise(widths):
            layers += [
                nn.ConvTranspose2d(w_in, w_out, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(w_out),
                nn.ReLU(inplace=True),
            ]
        to_image = nn.ConvTranspose2d(widths[-1], image_shape[0], 4, stride=2, padding=1, bias=False)
        super().__init__(*layers, to_image, nn.Tanh())


class Discriminator(nn.Sequential):
    """The mirror image: [B, C, H, W] -> logits [B, 1]."""

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        width: int,
        *,
        batch_norm: bool = True,
        variant: str = "dcgan",
    ) -> None:
        base = pyramid(image_shape, variant=variant)
        widths = [width << stage for stage in range(base.stages)]
        layers: list[nn.Module] = [
            nn.Conv2d(image_shape[0], widths[0], 4, stride=2, padding=1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        for w_in, w_out in pairwise(widths):
            layers += [
                nn.Conv2d(w_in, w_out, 4, stride=2, padding=1, bias=False),
                *([nn.BatchNorm2d(w_out)] if batch_norm else []),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        super().__init__(*layers, nn.Flatten(), Logits(widths[-1] * base.height * base.width, 1, bias=False))

    def forward(self, images: Tensor) -> Tensor:
        h = channels_last(images)
        for layer in self:
            h = layer(h)
        return h


def init_normal(layer: nn.Module) -> None:
    """Weights from N(0, 0.02), gains of batch norm from N(1, 0.02), biases and shifts 0."""
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        nn.init.normal_(layer.weight, 0.0, 0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    elif isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
        nn.init.normal_(layer.weight, 1.0, 0.02)
        nn.init.zeros_(layer.bias)
