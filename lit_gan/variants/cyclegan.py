"""CycleGAN: translation both ways between two folders without pairs (Zhu et al. 2017, arXiv:1703.10593).

Two generators that undo each other, two PatchGANs, least squares with the discriminators' part halved, an L1 loss of the
way there and back, and a pool of 50 earlier fakes for each discriminator. The domains are called as the batch calls them,
`source` (the paper's X, or A) and `image` (Y, or B). `generate` makes images of sources, `generate_source` goes the other
way, `cycle` there and back.

The identity loss is off, as in the paper but for paintings to photos; the authors' code has it on
(`identity_weight` 5), and so has configs/experiment/cyclegan-horse2zebra.yaml, whose score is of that code. It keeps
colours, and needs equal numbers of channels. Differs: every player's step makes its own fakes; both discriminators' steps
come before the generators', so that the fakes of a step are judged by what has learned from them; a fake that goes
into a pool is drawn for by the rank that made it, and all ranks keep the same pool, of the fakes of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import ClassVar, Literal, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from lit_gan.errors import UserError
from lit_gan.module import AdversarialModule, Batch, Losses
from lit_gan.networks.patch import PatchDiscriminator
from lit_gan.networks.translator import LEAST, STRIDE, Translator, blocks_for, check_shapes
from lit_gan.patchwise import PatchGame
from lit_gan.penalties import SLOPES
from lit_gan.settings import Optim
from lit_gan.tiles import pad_to

Domain = Literal["source", "image"]
DOMAINS: tuple[Domain, Domain] = ("image", "source")


class Pair(nn.Module):
    """One network for each domain: that which makes its images, or judges them."""

    def __init__(self, image: nn.Module, source: nn.Module) -> None:
        super().__init__()
        self.image, self.source = image, source

    def forward(self, images: Tensor, domain: Domain) -> Tensor:
        out: Tensor = self.image(images) if domain == "image" else self.source(images)
        return out


class Discriminators(Pair):
    """Two PatchGANs; `optim.freeze_d` counts the layers of both, in turn."""

    def in_order(self) -> Iterator[nn.Module]:
        networks = [cast("PatchDiscriminator", network) for network in (self.image, self.source)]
        for layers in zip(*(network.layers for network in networks), strict=True):
            yield from layers
        yield from (network.head for network in networks)


class ImagePool(nn.Module):
    """The last `size` fakes or so, which the discriminator is shown half of the time (Shrivastava et al. 2017).

    Until it is full it keeps a fake and returns it; then, for one in two, it keeps the new one and returns an old one
    drawn at random, and the other one it returns and forgets. What it keeps are the bits of float32 numbers, as integers:
    buffers of these are saved, and never averaged over the ranks. With several ranks everyone keeps the fakes of all, in
    the order of the ranks, by draws that travel with them.
    """

    bits: Tensor
    filled: Tensor

    def __init__(self, size: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.size = size
        pixels = image_shape[0] * image_shape[1] * image_shape[2]
        self.register_buffer("bits", torch.zeros(size, pixels, dtype=torch.int32))
        self.register_buffer("filled", torch.zeros(1, dtype=torch.int64))

    @torch.no_grad()
    def forward(self, fakes: Tensor) -> Tensor:
        """What the discriminator is to be shown for `fakes` [B, C, H, W], in float32; all ranks call it together."""
        if self.size == 0:
            return fakes
        draws = torch.rand(len(fakes), 2, device=fakes.device)  # whether to swap, and for which
        rows = torch.cat([fakes.detach().float().flatten(1), draws], 1)
        first = 0
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            gathered = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
            dist.all_gather(gathered, rows)
            first, rows = dist.get_rank() * len(fakes), torch.cat(gathered)
        shown = [
            self._exchange(rows[i : i + 1]) for i in range(len(rows))
        ]  # in turn: a batch may meet itself
        mine = torch.cat(shown[first : first + len(fakes)])
        return mine.view(torch.float32).view(fakes.shape)

    def _exchange(self, row: Tensor) -> Tensor:
        """Put one fake and its draws [1, D + 2] in; returns the bits [1, D] of the fake that comes out."""
        new = row[:, :-2].contiguous().view(torch.int32)
        swap, where = row[0, -2:-1] < 0.5, row[0, -1:]
        # All on the device: to ask how full it is would wait for it.
        full = self.filled >= self.size
        place = torch.where(full, (where * self.size).long().clamp(max=self.size - 1), self.filled)
        old = self.bits.index_select(0, place % self.size)
        self.bits.index_copy_(0, place % self.size, torch.where(full & ~swap, old, new))
        self.filled.copy_((self.filled + 1).clamp(max=self.size))
        return torch.where(full & swap, old, new)


class CycleGAN(AdversarialModule):
    optim_defaults: ClassVar[Optim] = Optim(
        lr=2e-4,
        beta1=0.5,
        lr_schedule="linear",
        decay_start_images=133_400,  # 100 epochs of horse2zebra, and another 100
        decay_images=133_400,
    )
    translates: ClassVar[bool] = True
    mixes_samples: ClassVar[bool] = False
    refuses: Mapping[str, str] = {
        **dict.fromkeys(
            ("consistency", "fake_consistency", *SLOPES), "which has a discriminator for each domain"
        ),
        **dict.fromkeys(("z_consistency", "z_diversity"), "which has no z"),
    }

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (3, 256, 256),
        source_shape: tuple[int, int, int] = (3, 256, 256),
        num_classes: int = 0,
        width: int = 64,  # maps of the generators at the image
        d_width: int | None = None,  # of the discriminators' first layer; null: width
        blocks: int | None = None,  # residual blocks; null: 6 for images below 256 pixels, 9 from there on
        field: int = 70,  # side of a discriminator's patch in pixels: 1, 16, 34, 70, 142, 286
        cycle_weight: float = 10.0,  # lambda, of the way there and back
        identity_weight: float = 0.0,  # of what the target domain's images change; the authors' code: 5
        pool_size: int = 50,  # fakes of each domain that the discriminators may see again; 0: none
        adversarial: Literal["least_squares", "non_saturating", "hinge", "relativistic"] = "least_squares",
        gamma: float = 1.0,  # weight of R1 and of R2 of the relativistic game
        optim: dict[str, object] | None = None,
    ) -> None:
        super().__init__(optim)
        self.save_hyperparameters(logger=False)
        check_shapes(image_shape, source_shape, variant="cyclegan")
        of_image, of_source = image_shape[0], source_shape[0]
        if identity_weight and of_image != of_source:
            raise UserError(
                f"model.identity_weight={identity_weight:g} compares an image with its own translation, and sources have "
                f"{of_source} channels, images {of_image}: set model.identity_weight=0"
            )
        self.needs = ("source", "image")
        self.latent_dim = 0
        self.stride, self.least_side = STRIDE, LEAST
        self.cycle_weight, self.identity_weight = cycle_weight, identity_weight
        self.game = PatchGame(self, adversarial, gamma)
        blocks = blocks_for(image_shape, blocks)
        self.generator = Pair(
            Translator(of_source, of_image, width, blocks), Translator(of_image, of_source, width, blocks)
        )
        judges = [
            PatchDiscriminator(channels, width if d_width is None else d_width, field, "instance")
            for channels in (of_image, of_source)
        ]
        judges[0].check(image_shape, variant="cyclegan")
        self.discriminator = Discriminators(*judges)
        self.pools = nn.ModuleDict(
            {"image": ImagePool(pool_size, image_shape), "source": ImagePool(pool_size, source_shape)}
        )
        self.finish()

    def fakes(self, batch: Batch) -> Tensor:
        fake: Tensor = self.generator(batch["source"], "image")
        return fake

    def discriminator_loss(self, batch: Batch) -> Losses:
        with torch.no_grad():
            fakes = {"image": self.fakes(batch), "source": self.generator(batch["image"], "source")}
        verdicts = {
            domain: self.game.discriminator(
                self,
                partial(self.discriminator, domain=domain),
                batch[domain],
                self.pools[domain](fakes[domain]),
            )
            for domain in DOMAINS
        }
        self.observe(
            torch.cat([verdict.real_logits for verdict in verdicts.values()]),
            torch.cat([verdict.fake_logits for verdict in verdicts.values()]),
        )
        of_source = {f"{name}_source": term for name, term in verdicts["source"].terms.items()}
        return {**verdicts["image"].terms, **of_source}

    def generator_loss(self, batch: Batch) -> Losses:
        source, image = batch["source"], batch["image"]
        made_image, made_source = self.fakes(batch), self.generator(image, "source")
        there_and_back = F.l1_loss(self.generator(made_image, "source"), source)
        back_and_there = F.l1_loss(self.generator(made_source, "image"), image)
        of_image, of_source = (partial(self.discriminator, domain=domain) for domain in DOMAINS)
        terms = {
            "adversarial": self.game.generator(self, of_image, image, made_image),
            "adversarial_source": self.game.generator(self, of_source, source, made_source),
            "cycle": self.cycle_weight * (there_and_back + back_and_there),
        }
        if self.identity_weight:
            kept = F.l1_loss(self.generator(image, "image"), image)
            kept = kept + F.l1_loss(self.generator(source, "source"), source)
            terms["identity"] = self.identity_weight * kept
        return terms

    def logits(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        verdict: Tensor = self.discriminator(images, "image")
        return verdict

    def generate(self, batch: Batch) -> Tensor:
        image: Tensor = self.sampler(batch["source"], "image")
        return image

    def generate_source(self, batch: Batch) -> Tensor:
        """Translations of `batch["image"]` into the sources' domain, as `generate` makes those of `batch["source"]`."""
        source: Tensor = self.sampler(batch["image"], "source")
        return source

    def cycle(self, batch: Batch) -> Tensor:
        """`batch["source"]` there and back, by the averaged weights: how far it is from itself is the cycle error."""
        source = batch["source"]
        height, width = source.shape[2:]
        padded = pad_to(source, self.stride, self.least_side)
        return self.generate_source({"image": self.generate({"source": padded})})[:, :, :height, :width]
