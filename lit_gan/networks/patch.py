"""PatchGAN: a discriminator that judges every patch of an image by itself (Isola et al. 2017, arXiv:1611.07004).

Convolutions with kernels of 4 alone, so that each logit sees a square of `field` pixels and any larger image will do.
Used by pix2pix, pix2pixHD, CycleGAN and CUT.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from lit_gan.errors import UserError
from lit_gan.networks.conv import Conv2d, channels_last

Norm = Literal["batch", "instance", "none"]

STRIDED = {
    16: 1,
    34: 2,
    70: 3,
    142: 4,
    286: 5,
}  # layers that halve, by the side of the patch that a logit sees
FIELDS = (1, *STRIDED)


class PatchDiscriminator(nn.Module):
    """Images [B, C, H, W] -> logits [B, 1, h, w] in float32, each of a patch of `field` pixels a side.

    `width` maps after the first layer, twice as many after each other one, at most 8 x `width`; LeakyReLU 0.2; no norm
    after the first layer; weights from N(0, 0.02). `field` is 1 or a key of STRIDED: 70 is the papers'. Instance norm
    has no gain and no shift, and no layer then mixes samples. `padding` is pix2pix's 1 or pix2pixHD's 2.
    """

    def __init__(
        self,
        channels: int,
        width: int = 64,
        field: int = 70,
        norm: Norm = "batch",
        *,
        padding: int = 1,
    ) -> None:
        super().__init__()
        if field not in FIELDS:
            raise UserError(f"a patch of {field} pixels: no such PatchGAN, there are {FIELDS}")
        self.field, self.padding = field, padding
        kernel, padding = (1, 0) if field == 1 else (4, padding)
        strides = [1, 1] if field == 1 else [2] * STRIDED[field] + [1]
        self.layers = nn.ModuleList()  # in the order in which an image passes through them
        w_in = channels
        for depth, stride in enumerate(strides):
            w_out = width * min(2**depth, 8)
            plain = depth == 0 or norm == "none"
            # batch norm's shift does what a bias would do
            bias = plain or norm == "instance"
            parts: list[nn.Module] = [
                Conv2d(w_in, w_out, kernel, stride=stride, padding=padding, bias=bias),
                *([] if plain else [norm_layer(w_out, norm)]),
                nn.LeakyReLU(0.2),
            ]
            self.layers.append(nn.Sequential(*parts))
            w_in = w_out
        bias = field > 1 or norm != "batch"  # as the published networks have it
        self.head = Conv2d(w_in, 1, kernel, padding=padding, bias=bias)
        self.apply(init_normal)

    def features(self, images: Tensor) -> list[Tensor]:
        """What every layer gives, after its activation, from the image on; the last one are the logits."""
        found = [channels_last(images)]
        for layer in self.layers:
            found.append(layer(found[-1]))
        h = found[-1]
        with torch.autocast(h.device.type, enabled=False):  # bfloat16's 8 bits would quantise the logits
            found.append(self.head(h.to(self.head.weight.dtype)))
        return found[1:]

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images)[-1]

    def smallest(self) -> int:
        """The least side of an image in which every layer has two pixels to normalise, and a logit is left."""
        if self.field == 1:
            return 2
        p2 = 2 * self.padding
        least = max(1 + 3 - p2, 2)  # of the head's input
        least = max(least + 3 - p2, 2)
        for _ in range(STRIDED[self.field]):
            least = max((least - 1) * 2 + 4 - p2, 2)
        return least

    def check(self, image_shape: tuple[int, int, int], *, variant: str, key: str = "model.field") -> None:
        """Raise a `UserError` that names `variant` and the setting `key` where images [C, H, W] are too small."""
        _, height, width = image_shape
        if min(height, width) < (least := self.smallest()):
            raise UserError(
                f"{variant} with {key}={self.field} needs images of at least {least} pixels a side, they have "
                f"{height}x{width}: take larger ones, or a smaller field of {FIELDS}"
            )


def norm_layer(width: int, norm: Norm) -> nn.Module:
    """The norm of maps [B, `width`, H, W]; instance norm without gain, shift or running statistics."""
    if norm == "none":
        return nn.Identity()
    return nn.BatchNorm2d(width) if norm == "batch" else nn.InstanceNorm2d(width)


def init_normal(layer: nn.Module) -> None:
    """Weights from N(0, 0.02), biases 0, gains of batch norm from N(1, 0.02): what image translation begins with."""
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        nn.init.normal_(layer.weight, 0.0, 0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)
        nn.init.zeros_(layer.bias)
