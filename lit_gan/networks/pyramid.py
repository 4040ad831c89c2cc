"""The discriminators of super-resolution: convolutions that halve the image, then two linear layers on all that is left."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from lit_gan.networks.conv import channels_last
from lit_gan.networks.logits import Logits


class Pyramid(nn.Sequential):
    """[B, C, H, W] -> logits [B, 1]: `layers`, which leave `features` numbers a sample, and a hidden layer of `units`."""

    def __init__(self, layers: Sequence[nn.Module], features: int, units: int) -> None:
        verdict = Logits(units, 1)
        nn.init.zeros_(verdict.bias)  # differences of logits, where they alone count, would leave it as it is
        hidden = nn.Linear(features, units)
        super().__init__(*layers, nn.Flatten(), hidden, nn.LeakyReLU(0.2), verdict)

    def forward(self, images: Tensor) -> Tensor:
        h = channels_last(images)
        for layer in self:
            h = layer(h)
        return h
