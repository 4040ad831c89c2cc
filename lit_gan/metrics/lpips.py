"""LPIPS, the learned perceptual distance of two images (Zhang et al. 2018, arXiv:1801.03924).

The graph and the linear layers (version 0.1) are those of torchmetrics, the backbone's weights torchvision's: 553 MB
for VGG-16, 244 MB for AlexNet, and no part of lit-gan; docs/metrics.md says where they go. Images keep their size.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torchmetrics
from torch import Tensor

from lit_gan.errors import UserError
from lit_gan.metrics.extractors import Network, as_rgb, exact_float32, lacks_levels
from lit_gan.metrics.weights import KNOWN, find_weights, read_tensors, verified

if TYPE_CHECKING:
    from lit_gan.metrics.extractors import Source

Distance = Callable[[Tensor, Tensor], Tensor]  # of images [B, C, H, W] each, one number a pair [B]

KEY = "metrics.lpips_weights"
SMALLEST = {"vgg": 16, "alex": 31}  # the shorter side that is left with a pixel in the last layer


class PerceptualNetwork(Network):
    """Images [B, C, H, W] and as many others -> distances float32 [B], 0 for equal images.

    Images are uint8, or floats in [-1, 1] (not clamped); grey is repeated to 3 channels, RGBA laid over black.
    Always in eval mode, frozen, in float32 without autocast or TF32, without gradients.
    """

    def __init__(self, backbone: str, weights: Path, weights_sha256: str | None = None) -> None:
        super().__init__()
        from torchmetrics.functional.image.lpips import _LPIPS

        self.name, self.backbone = f"lpips-{backbone}", backbone
        self.weights_hash = verified(weights, weights_sha256, KNOWN[self.name], KEY)
        with torch.device("meta"):  # else torchvision draws 138 million numbers, and from the global stream
            self.graph = _LPIPS(pretrained=False, pnet_rand=True, net=backbone)  # type: ignore[arg-type]
        given = read_tensors(weights)
        state = read_tensors(
            Path(torchmetrics.__file__).parent / f"functional/image/lpips_models/{backbone}.pth"
        )
        try:
            for name in self.graph.state_dict():
                if name.startswith("net.slice"):  # net.slice2.5.weight is torchvision's features.5.weight
                    state[name] = given["features." + name.split(".", 2)[2]].float()
                elif name.startswith("lins."):  # the linear layers once more, under another name
                    state[name] = state[name.replace("lins.", "lin")]
            self.graph.load_state_dict(state, assign=True)
        except (KeyError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:100]
            raise UserError(f"{weights} does not fit the {backbone} of LPIPS: {reason}") from error
        self.eval().requires_grad_(False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        device = next(self.graph.parameters()).device
        with torch.no_grad(), exact_float32(device):
            images = torch.cat([_signed(first.to(device)), _signed(second.to(device))])
            distances: Tensor = self.graph(*images.chunk(2))  # [B, 1, 1, 1]
        return distances.flatten()

    def lacks(self, data: Source) -> str:
        """Why the distance cannot be had of these images, to be read after a metric's name; "" if it can."""
        if lacking := lacks_levels(data):
            return lacking
        (channels, *sides), least = data.image_shape, SMALLEST[self.backbone]
        if channels not in {1, 3, 4}:
            return f"reads images of 1, 3 or 4 channels, the data have {channels}: use others"
        if min(sides) < least:
            return (
                f"needs images of at least {least} pixels a side, the data have {min(sides)}: use larger ones"
            )
        return ""


def build_lpips(
    backbone: str = "vgg",
    *,
    weights: str | None = None,
    weights_sha256: str | None = None,
    device: torch.device | str = "cpu",
) -> PerceptualNetwork:
    """The network of LPIPS over `backbone`, vgg or alex, on `device`; may fetch its weights once, see docs/metrics.md."""
    if backbone not in SMALLEST:
        raise ValueError(f"backbone must be one of {', '.join(SMALLEST)}, got {backbone!r}")
    path = find_weights(f"lpips-{backbone}", weights, KEY)
    return PerceptualNetwork(backbone, path, weights_sha256).to(device)


def _signed(images: Tensor) -> Tensor:
    """float32 [B, 3, H, W] in [-1, 1] of uint8 or float images."""
    if images.dtype == torch.uint8:
        return as_rgb(images).float() / 127.5 - 1
    images = images.float()
    if images.shape[1] == 1:
        return images.expand(-1, 3, -1, -1)
    if images.shape[1] == 4:
        return (images[:, :3] + 1) * (images[:, 3:] + 1) / 2 - 1
    return images
