"""VGG-19's features (Simonyan & Zisserman 2015, arXiv:1409.1556) as a loss: images alike in what a classifier sees.

Perceptual, content or VGG loss (Johnson et al. 2016, arXiv:1603.08155), with torchvision's network and ImageNet weights.
Where there are no weights, pixels and their gradients are compared instead, and `about` says so; but where the features
are more than a loss, as in style transfer, they are `required`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_gan.errors import UserError
from lit_gan.networks.translator import Conv

BLOCKS = (2, 2, 4, 4, 4)  # convolutions before each halving
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, in [0, 1]
FALLBACK = "L1 of pixels and of their gradients"


def layer_names() -> list[str]:
    """The layers of torchvision's `vgg19().features` in their order: conv1_1, relu1_1, conv1_2, ..., pool5."""
    names: list[str] = []
    for block, convolutions in enumerate(BLOCKS, 1):
        for number in range(1, convolutions + 1):
            names += [f"conv{block}_{number}", f"relu{block}_{number}"]
        names.append(f"pool{block}")
    return names


class PerceptualFeatures:
    """Images [B, C, H, W] in [-1, 1] -> the features of `layers`, each [B, F, h, w], by name.

    `weights` is a file, "auto" (the places of `lit-gan weights`, then one download; where that fails, none) or "none". They
    are read at the first use: a generator alone never asks for them. No nn.Module, so that whoever holds it has no part of
    it in its state; it is frozen, in eval mode, and goes to the device of the images. `channels` other than 1 (repeated), 3
    and 4 (laid over black) have no features. `required` makes a `UserError` of missing weights. `reflect` pads every
    convolution by reflection, where VGG-19 was trained with zeros; maps then need at least 2 pixels a side.
    """

    def __init__(
        self,
        layers: Sequence[str],
        weights: str = "auto",
        *,
        channels: int = 3,
        key: str = "model.vgg",
        required: bool = False,
        reflect: bool = False,
    ) -> None:
        names = layer_names()
        if unknown := [name for name in layers if name not in names]:
            raise UserError(f"VGG-19 has no layer {unknown[0]}: it has {', '.join(names)}")
        self.layers, self.weights, self.channels, self.key = tuple(layers), weights, channels, key
        self.required, self.reflect = required, reflect
        self.indices = {names.index(name): name for name in layers}
        self._network: nn.Sequential | None = None
        self._about: str | None = None

    @property
    def network(self) -> nn.Sequential | None:
        """VGG-19 up to the last of the layers, or None where there are no weights; the first call reads them."""
        if self._about is None:
            self._network, self._about = self._built()
        return self._network

    @property
    def about(self) -> str:
        """What the loss is made with, for a run's results: the weights and their sha256, or the fallback and why."""
        _ = self.network
        assert self._about is not None
        return self._about

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        if self.network is None:
            raise ValueError(f"no features without VGG-19: {self.about}")
        network = self.network.to(images.device)
        least = 2 ** sum(name.startswith("pool") for name in layer_names()[: max(self.indices) + 1])
        if min(images.shape[2:]) < least:
            raise UserError(
                f"{self.key}: {self.layers[-1]} of VGG-19 needs images of at least {least} pixels a side, they have "
                f"{images.shape[2]}x{images.shape[3]}: take larger ones, or {self.key}=none"
            )
        mean, std = (images.new_tensor(v, dtype=torch.float32)[:, None, None] for v in (MEAN, STD))
        h = ((as_rgb(images.float()) + 1) / 2 - mean) / std  # [B, 3, H, W]
        found = {}
        for index, layer in enumerate(network):
            h = layer(h)
            if index in self.indices:
                found[self.indices[index]] = h
        return found

    def distance(
        self,
        fake: Tensor,
        real: Tensor,
        shares: Sequence[float] | None = None,
        norm: Literal["l1", "l2"] = "l1",
    ) -> Tensor:
        """The mean absolute or squared difference of features, summed over layers by `shares` (None: 1 each); a scalar.

        Gradients go to `fake` alone. Without weights it is `pixels_and_gradients`.
        """
        if self.network is None:
            return pixels_and_gradients(fake, real)
        with torch.no_grad():
            target = self(real)
        features = self(fake)
        of = F.l1_loss if norm == "l1" else F.mse_loss
        return torch.stack(
            [
                share * of(features[name].float(), target[name].float())
                for name, share in zip(self.layers, shares or [1.0] * len(self.layers), strict=True)
            ]
        ).sum()

    def _built(self) -> tuple[nn.Sequential | None, str]:
        from lit_gan.metrics.weights import KNOWN, find_weights, given, read_tensors, sha256_of, verified

        if self.weights == "none" and not self.required:
            return None, f"{FALLBACK} ({self.key}=none)"
        if self.weights == "none":
            return self._without(
                f"{self.key}=none leaves nothing to work with: lit-gan weights fetch vgg19, or {self.key}=PATH"
            )
        if self.channels not in {1, 3, 4}:
            return self._without(f"VGG-19 reads 1, 3 or 4 channels, the images have {self.channels}")
        if self.weights == "auto":
            try:
                path = find_weights("vgg19", None, self.key)
            except UserError:
                return self._without(
                    f"VGG-19's weights are not here: lit-gan weights fetch vgg19, or {self.key}=PATH"
                )
            found = verified(path, None, KNOWN["vgg19"], self.key)
        else:
            path = given(self.weights, self.key)
            found = sha256_of(path)
        network = vgg19(read_tensors(path), max(self.indices) + 1, path, reflect=self.reflect)
        return network, f"VGG-19 {', '.join(self.layers)}, weights {found}"

    def _without(self, reason: str) -> tuple[None, str]:
        if self.required:
            raise UserError(reason)
        print(f"the perceptual loss is {FALLBACK}: {reason}", file=sys.stderr)
        return None, f"{FALLBACK} ({reason})"


def vgg19(state: Mapping[str, Tensor], layers: int, path: Path, *, reflect: bool = False) -> nn.Sequential:
    """The first `layers` of torchvision's `vgg19().features` with these weights, frozen; `path` is for messages."""
    from torchvision.models import vgg19 as build

    def ours(layer: nn.Module) -> nn.Module:
        if isinstance(layer, nn.ReLU):  # theirs are in place, over the features before them
            return nn.ReLU()
        if reflect and isinstance(layer, nn.Conv2d):
            return Conv(layer.in_channels, layer.out_channels, 3)
        return layer

    with torch.device("meta"):  # else torchvision draws 143 million numbers, and from the global stream
        network = nn.Sequential(*map(ours, list(build(weights=None).features)[:layers]))
    own = {
        name.removeprefix("features."): value.float()
        for name, value in state.items()
        if not name.startswith("classifier.")
    }
    try:
        network.load_state_dict({name: own[name] for name in network.state_dict()}, assign=True)
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:100]
        raise UserError(f"{path} does not fit torchvision's VGG-19: {reason}") from error
    return network.eval().requires_grad_(False)


def as_rgb(images: Tensor) -> Tensor:
    """[B, 1|3|4, H, W] in [-1, 1] as [B, 3, H, W]: grey is repeated, RGBA laid over black."""
    if images.shape[1] == 1:
        return images.expand(-1, 3, -1, -1)
    if images.shape[1] == 4:
        return (images[:, :3] + 1) * (images[:, 3:] + 1) / 2 - 1
    return images


def pixels_and_gradients(fake: Tensor, real: Tensor) -> Tensor:
    """L1 of images [B, C, H, W], and of their differences from pixel to pixel in either direction; a scalar.

    The second keeps edges where the first alone would blur them (Mathieu et al. 2016, arXiv:1511.05440).
    """
    error = fake.float() - real.detach().float()
    return error.abs().mean() + error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
