"""The residual network that translates images of any size (Johnson et al. 2016, arXiv:1603.08155; Zhu et al. 2017).

Two halvings, blocks at a quarter of the size, two doublings; padded by reflection where the kernels keep the size,
instance norm without gain and shift after every convolution but the last. Used by CycleGAN and, with filters before
the halvings and after the doublings, by CUT.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_gan.errors import UserError
from lit_gan.networks.conv import channels_last
from lit_gan.networks.patch import init_normal
from lit_gan.networks.resample import up

STRIDE = 4  # its input's sides are multiples of it
LEAST = 8  # at a quarter of it a reflection still has a pixel to take


def reflected(images: Tensor, padding: int) -> Tensor:
    """[B, C, H, W] continued by `padding` pixels of its mirror image on each side, the edge itself not repeated."""
    if not torch.are_deterministic_algorithms_enabled():
        return F.pad(images, (padding,) * 4, mode="reflect")
    for axis in (2, 3):  # the gradient of the other way is summed in any order on a GPU
        size = images.shape[axis]
        before = images.narrow(axis, 1, padding).flip(axis)
        after = images.narrow(axis, size - 1 - padding, padding).flip(axis)
        images = torch.cat([before, images, after], axis)
    return images


class Conv(nn.Conv2d):
    """A convolution that keeps the size, padded by reflection."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(reflected(images, self.kernel_size[0] // 2))


class Halve(nn.Module):
    """Every second pixel after the filter [1, 2, 1]: half the size, rounded up (Zhang 2019, arXiv:1904.11486)."""

    def forward(self, images: Tensor) -> Tensor:
        return F.avg_pool2d(F.avg_pool2d(reflected(images, 1), 2, 1), 2)  # [1, 1] twice is [1, 2, 1]


class Double(nn.Module):
    """Twice the size by the filter [1, 3, 3, 1]."""

    def forward(self, images: Tensor) -> Tensor:
        return up(images)


class Block(nn.Module):
    """x + norm(3x3(relu(norm(3x3(x))))), [B, C, H, W] -> the same; no activation after the sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = Conv(width, width, 3), Conv(width, width, 3)
        self.norm = nn.InstanceNorm2d(width)

    def forward(self, inputs: Tensor) -> Tensor:
        h = F.relu(self.norm(self.first(inputs)))
        changed: Tensor = self.norm(self.second(h))
        return inputs + changed


class Translator(nn.Module):
    """Images [B, C, H, W] -> images [B, C', H, W] in [-1, 1] in float32, H and W multiples of 4 and at least 8.

    `width` maps at the image, `blocks` residual blocks of 4 x `width`. What an image is on the way has names (`taps`):
    "input", "down1" and "down2" (after the convolution, before its norm), "block1" to the last block. The weights are
    from N(0, 0.02).
    """

    def __init__(
        self, channels: int, channels_out: int, width: int = 64, blocks: int = 9, *, antialias: bool = False
    ) -> None:
        super().__init__()
        stride = 1 if antialias else 2
        inner = 4 * width
        self.stem = nn.Sequential(Conv(channels, width, 7), nn.InstanceNorm2d(width), nn.ReLU())
        self.downs = nn.ModuleList(
            nn.Conv2d(w_in, 2 * w_in, 3, stride, padding=1) for w_in in (width, 2 * width)
        )
        self.after_down = nn.ModuleList(
            nn.Sequential(nn.InstanceNorm2d(w_out), nn.ReLU(), *([Halve()] if antialias else []))
            for w_out in (2 * width, inner)
        )
        self.blocks = nn.ModuleList(Block(inner) for _ in range(blocks))
        self.ups = nn.Sequential()
        for w_in in (inner, 2 * width):
            if antialias:
                self.ups.extend([Double(), nn.Conv2d(w_in, w_in // 2, 3, padding=1)])
            else:
                self.ups.append(nn.ConvTranspose2d(w_in, w_in // 2, 3, 2, padding=1, output_padding=1))
            self.ups.extend([nn.InstanceNorm2d(w_in // 2), nn.ReLU()])
        self.head = Conv(width, channels_out, 7)
        self.maps = {"input": channels, "down1": 2 * width, "down2": inner}  # of every tap
        self.maps |= {f"block{i + 1}": inner for i in range(blocks)}
        self.apply(init_normal)

    def forward(self, images: Tensor) -> Tensor:
        h, _ = self.encode(images)
        return self.decode(h)

    def encode(
        self, images: Tensor, taps: Sequence[str] = (), *, whole: bool = True
    ) -> tuple[Tensor, list[Tensor]]:
        """What `decode` reads, and the maps [B, C, h, w] at each of `taps`; unless `whole`, no further than the last."""
        last = max((list(self.maps).index(tap) for tap in taps), default=0)
        found = {"input": images}
        h = self.stem(channels_last(images))
        for i, (down, after) in enumerate(zip(self.downs, self.after_down, strict=True)):
            found[f"down{i + 1}"] = down(h)
            h = after(found[f"down{i + 1}"])
        for i, block in enumerate(self.blocks):
            if not whole and len(found) > last:
                break
            h = found[f"block{i + 1}"] = block(h)
        return h, [found[tap] for tap in taps]

    def decode(self, h: Tensor) -> Tensor:
        """The image [B, C', H, W] of maps [B, 4 x width, H / 4, W / 4]."""
        return torch.tanh(self.head(self.ups(h)).float())


def blocks_for(image_shape: tuple[int, int, int], blocks: int | None) -> int:
    """`blocks`, or where that is None the paper's number: 6 for images below 256 pixels, 9 from there on."""
    return (6 if min(image_shape[1:]) < 256 else 9) if blocks is None else blocks


def check_shapes(
    image_shape: tuple[int, int, int], source_shape: tuple[int, int, int], *, variant: str
) -> None:
    """Raise a `UserError` that names `variant` where images or sources (C, H, W) are not of a size to translate."""
    if image_shape[1:] != source_shape[1:]:
        raise UserError(
            f"{variant} keeps the size of an image, and the sources have {source_shape[1]}x{source_shape[2]} pixels, the "
            f"images {image_shape[1]}x{image_shape[2]}: crop both alike (data.crop_size)"
        )
    _, height, width = image_shape
    if height % STRIDE or width % STRIDE or min(height, width) < LEAST:
        raise UserError(
            f"{variant} cannot translate images of {height}x{width} pixels: both sides must be multiples of {STRIDE} and "
            f"at least {LEAST}; crop them (data.crop_size)"
        )
