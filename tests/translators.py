"""Batches made by hand for the translators, and what their tests ask of all of them."""

from __future__ import annotations

from typing import Any, cast

import torch

from lit_gan.module import AdversarialModule, Batch
from lit_gan.players import frozen, total
from lit_gan.translator import Translator


def unpaired(
    source: tuple[int, int, int], image: tuple[int, int, int], size: int = 2, seed: int = 1
) -> Batch:
    """Independent random images of two domains in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"source": source, "image": image}
    return {key: torch.rand(size, *shape, generator=generator) * 2 - 1 for key, shape in shapes.items()}


def assert_each_loss_reaches_its_player_alone(module: AdversarialModule, batch: Batch) -> None:
    players = {"d": (module.discriminator, module.generator), "g": (module.generator, module.discriminator)}
    for player, (mine, other) in players.items():
        module.zero_grad(set_to_none=True)
        with frozen(other.parameters()):
            terms = module.losses(player, batch)
            total(terms).backward()

        assert next(iter(terms)) == "adversarial"
        assert all(term.shape == () and term.isfinite() for term in terms.values())
        assert all(p.grad is None for p in other.parameters())
        unreached = [n for n, p in mine.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
        assert not unreached, f"{player}: no gradient for {unreached}"


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


class Negative(torch.nn.Module):
    """In place of a trained module: the negative of a source, with so many channels, `scale` times as large."""

    takes_style, sample_dropout, latent_dim, stride, least_side, reach = False, False, 0, 1, 1, 0
    device = torch.device("cpu")

    def __init__(self, channels: int = 3, scale: int = 1) -> None:
        super().__init__()
        self.channels, self.scale = channels, scale
        self.seen: list[torch.Tensor] = []  # the sources

    def generate(self, batch: Batch) -> torch.Tensor:
        source = batch["source"]
        self.seen.append(source)
        made = -source[:, [i % source.shape[1] for i in range(self.channels)]]
        return made.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)


RANGES = {"uint8": [0.0, 255.0], "uint16": [0.0, 65535.0], "float32": [0.0, 1.0]}


def negative(
    source: int = 3,
    image: int = 3,
    *,
    dtypes: tuple[str, str] = ("uint8", "uint8"),
    scale: int = 1,
    **more: Any,
) -> Translator:
    """A `Translator` of so many channels on both sides; `source_*` and `image_*` in `more` are of one side."""
    sides = {
        name: {"shape": [channels, 8, 8], "dtype": dtype, "stored": "", "range": RANGES[dtype]}
        | {key.removeprefix(f"{name}_"): more.pop(key) for key in list(more) if key.startswith(f"{name}_")}
        for name, channels, dtype in (("source", source, dtypes[0]), ("image", image, dtypes[1]))
    }
    return Translator(cast("Any", Negative(image, scale)), sides, tile="none", **more)
