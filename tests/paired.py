"""What the tests of the variants that learn from pairs ask beside those of all translators."""

from __future__ import annotations

import copy

from torch import nn

from lit_gan.module import AdversarialModule, Batch
from translators import take_steps


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def assert_goes_on_from_its_state(module: AdversarialModule, batches: list[Batch]) -> None:
    """`state_dict` and the counts are all there is: a module that is given them does what this one does."""
    take_steps(module, batches[:1])
    other = copy.deepcopy(module)
    for parameter in other.parameters():
        nn.init.ones_(parameter.detach())
    other.load_state_dict(module.state_dict())

    assert take_steps(module, batches[1:]) == take_steps(other, batches[1:])
