"""FreezeD (Mo et al. 2020, arXiv:2002.10964): the discriminator's layers nearest to the image keep their weights.

A layer is a module with a weight matrix or kernel, and what lies between it and the next one: its bias, the scales of a
norm. Gradients flow through it, to the image for penalties and to the generator. A frozen layer computes what it computed
where it was trained, so its batch norm keeps using the statistics of its batch; the running averages move on, which no
discriminator reads. So does the vector u of spectral norm, which comes nearer to a singular vector that stands still.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, cast, runtime_checkable

from torch import nn

from lit_gan.errors import UserError


@runtime_checkable
class Ordered(Protocol):
    """A network that says in which order an image passes through its parts; other networks register them in it."""

    def in_order(self) -> Iterable[nn.Module]: ...


def modules_in_order(network: nn.Module) -> Iterator[nn.Module]:
    """All modules of `network` from the image to the logit, a module after those that it consists of."""
    # cast: mypy narrows to an intersection that has no parts
    parts = cast("Ordered", network).in_order() if isinstance(network, Ordered) else network.children()
    for part in parts:
        yield from modules_in_order(part)
    yield network


def layers_in_order(network: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of `network` by layer, from the image to the logit."""
    layers: list[list[nn.Parameter]] = []
    for module in modules_in_order(network):
        own = list(module.parameters(recurse=False))
        if not layers or any(parameter.ndim >= 2 for parameter in own):
            if own:
                layers.append(own)
        else:
            layers[-1] += own
    return layers


def freeze_first(discriminator: nn.Module, number: int) -> None:
    """Freeze the `number` layers nearest to the image; a `UserError` if that leaves none to train."""
    if number == 0:
        return
    layers = layers_in_order(discriminator)
    if number >= len(layers):
        raise UserError(
            f"optim.freeze_d={number} leaves nothing to train: this discriminator has {len(layers)} layers with weights; "
            f"give {len(layers) - 1} or fewer"
        )
    for layer in layers[:number]:
        for parameter in layer:
            parameter.requires_grad_(False)
