"""Pairs made by hand for the variants that learn from them, and what their tests ask of all of them."""

from __future__ import annotations

import copy

import torch
from torch import nn

from lit_gan.module import AdversarialModule, Batch
from lit_gan.players import frozen, total

Shape = tuple[int, int, int]


def pairs(source: Shape, image: Shape, size: int = 2, seed: int = 1) -> Batch:
    """Random pairs in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"source": source, "image": image}
    return {key: torch.rand(size, *shape, generator=generator) * 2 - 1 for key, shape in shapes.items()}


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def assert_each_loss_reaches_its_player_alone(
    module: AdversarialModule, batch: Batch, unreached: str = " "
) -> None:
    """`unreached` begins the names of the generator's parameters that do not learn at this stage."""
    players = {"d": (module.discriminator, module.generator), "g": (module.generator, module.discriminator)}
    for player, (mine, other) in players.items():
        module.zero_grad(set_to_none=True)
        with frozen(other.parameters()):
            terms = module.losses(player, batch)
            total(terms).backward()

        assert next(iter(terms)) == "adversarial"
        assert all(term.shape == () and term.isfinite() for term in terms.values())
        assert all(p.grad is None for p in other.parameters())
        missed = [n for n, p in mine.named_parameters() if p.grad is None]
        assert all(player == "g" and name.startswith(unreached) for name in missed), f"{player}: {missed}"


def take_steps(module: AdversarialModule, batches: list[Batch]) -> list[float]:
    """Both players' updates on each batch as the spine orders them; their losses."""
    d, g = module.configure_optimizers()
    found = []
    for batch in batches:
        torch.manual_seed(module.images_seen)
        for player, optimizer, other in (("d", d, module.generator), ("g", g, module.discriminator)):
            optimizer.zero_grad(set_to_none=True)
            with frozen(other.parameters()):
                loss = total(module.losses(player, batch))
                loss.backward()
            optimizer.step()
            found.append(loss.item())
        module.images_seen += len(batch["image"])
    return found


def assert_goes_on_from_its_state(module: AdversarialModule, batches: list[Batch]) -> None:
    """What `state_dict` and the counts keep is all there is: a copy made of them does what the module does."""
    take_steps(module, batches[:1])
    other = copy.deepcopy(module)
    for parameter in other.parameters():
        nn.init.ones_(parameter)
    other.load_state_dict(module.state_dict())

    assert take_steps(module, batches[1:]) == take_steps(other, batches[1:])
