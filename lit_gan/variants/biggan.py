"""BigGAN: large batches and wide networks, truncated at will (Brock et al. 2019, arXiv:1809.11096).

SAGAN's blocks, spectral norm in both players, self-attention, hinge loss and projection, and: one class embedding shared
by all batch norms, whose gain and shift are linear in it; z cut into chunks, one for the base grid and one for each
block's batch norms (skip-z); orthogonal initialisation and regularisation of the generator (beta); two discriminator
steps per generator step; an average of the generator that starts late; truncation of z; standing statistics for batch
norm in inference (100 forward passes, see `lit_gan.sampling.inference`). The batch is 2048: optim.accumulate cuts it into
parts.

Maps in multiples of `width` (ch) as the paper and its authors' code have them for 32, 64, 128 and 256 pixels: other sizes
take the one with as many doublings. Up to 32 pixels that is the authors' CIFAR-10 network. Without `conditional`, z alone
modulates the batch norms, and there is no projection.

Left out: BigGAN-deep, cross-replica batch norm (statistics are of each rank's part of the batch). Differs: the fakes'
labels are the batch's, where the paper's are uniform; batch norm and spectral norm have PyTorch's epsilons.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from math import prod
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_gan.errors import UserError
from lit_gan.losses import LOSSES
from lit_gan.module import AdversarialModule, Batch, Losses
from lit_gan.networks.norm import ClassNorm, LinearNorm
from lit_gan.networks.residual import Conv, Norm, UpBlock
from lit_gan.networks.resnet import Discriminator, discriminator_widths, is_small
from lit_gan.networks.self_attention import SelfAttention, place_of
from lit_gan.networks.shape import Pyramid, pyramid
from lit_gan.networks.spectral import Embedding, Linear, normalised_matrices
from lit_gan.regularisers import orthogonality
from lit_gan.sampling import truncated
from lit_gan.settings import Optim


class Generator(nn.Module):
    """[B, Z] (and labels [B]) -> [B, C, H, W] in [-1, 1].

    `chunk` is the length of the parts of z, 0 for all of it at the base grid; `shared_dim` that of the class embedding,
    0 for a gain and shift per class.
    """

    def __init__(
        self,
        base: Pyramid,
        channels: int,
        latent_dim: int,
        widths: list[int],
        num_classes: int,
        *,
        chunk: int,
        shared_dim: int,
        attention: int,
    ) -> None:
        super().__init__()
        self.chunk = chunk
        self.embed = Embedding(num_classes, shared_dim) if num_classes and shared_dim else None
        features = chunk + (shared_dim if self.embed is not None else 0)
        norm: Norm = (
            partial(LinearNorm, features=features)
            if features
            else partial(ClassNorm, num_classes=num_classes)
        )
        self.shape = (widths[0], base.height, base.width)
        self.project = Linear(chunk or latent_dim, prod(self.shape), spectral=True)
        nn.init.zeros_(self.project.bias)
        self.blocks = nn.ModuleList(
            UpBlock(w_in, w_out, norm, spectral=True) for w_in, w_out in pairwise(widths)
        )
        self.norm = nn.BatchNorm2d(widths[-1])
        self.to_image = Conv(widths[-1], channels, 3, spectral=True)
        self.place = place_of(attention, [min(base.size(stage + 1)) for stage in range(base.stages)])
        if self.place is not None:
            self.attention = SelfAttention(widths[self.place + 1])

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        first, conditions = self.conditions(z, label)
        h = self.project(first).unflatten(1, self.shape).contiguous(memory_format=torch.channels_last)
        for i, (block, condition) in enumerate(zip(self.blocks, conditions, strict=True)):
            h = block(h, condition)
            if i == self.place:
                h = self.attention(h)
        return torch.tanh(self.to_image(F.relu(self.norm(h))))

    def conditions(self, z: Tensor, label: Tensor | None) -> tuple[Tensor, list[Tensor | None]]:
        """What the base grid is made of, and what each block's norms read: [B, shared + chunk], or labels [B]."""
        shared = None if self.embed is None else self.embed(label)
        if not self.chunk:
            return z, [label if shared is None else shared] * len(self.blocks)
        first, *chunks = torch.split(z, self.chunk, dim=1)
        return first, [c if shared is None else torch.cat([shared, c], dim=1) for c in chunks]


class BigGAN(AdversarialModule):
    optim_defaults: ClassVar[Optim] = Optim(
        lr=5e-5,
        d_lr=2e-4,
        beta1=0.0,
        beta2=0.999,
        eps=1e-6,
        d_steps_per_g_step=2,
        ema_half_life=28_390_000.0,  # a decay of 0.9999 per generator step of 2 x 2048 images
        ema_ramp=None,
        ema_start=81_920_000,  # 20,000 generator steps
    )
    mixes_samples: ClassVar[bool] = False
    refuses: Mapping[str, str] = {"orthogonal": "which has its own (model.orthogonal_weight)"}
    truncates: ClassVar[bool] = True
    standing_batches: int = 100

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (3, 128, 128),
        num_classes: int = 0,
        conditional: bool = True,  # on the label
        latent_dim: int = 120,  # 140 at 256 px; rounded down to whole chunks
        hierarchical: bool = True,  # a chunk of z for each block
        shared_dim: int = 128,  # of the class embedding; 0: a gain and shift per class in every batch norm
        width: int = 96,  # ch: maps at the image; up to 32 px a quarter of those of all layers
        d_width: int | None = None,  # of the discriminator; null: width
        attention: int
        | None = None,  # side of the maps that attend; null: 64, in smaller images half the side; 0: none
        init: Literal["orthogonal", "normal"] = "orthogonal",  # normal: N(0, 0.02), in the CIFAR-10 script
        orthogonal_weight: float = 1e-4,  # beta, of the generator's orthogonal regularisation
        optim: dict[str, object] | None = None,
    ) -> None:
        super().__init__(optim)
        self.save_hyperparameters(logger=False)
        classes = self.condition(conditional, num_classes)
        self.loss = LOSSES["hinge"]
        self.orthogonal_weight = orthogonal_weight
        base, channels = pyramid(image_shape, variant="biggan"), image_shape[0]
        chunk = latent_dim // (base.stages + 1) if hierarchical else 0
        self.latent_dim = chunk * (base.stages + 1) if hierarchical else latent_dim
        if self.latent_dim == 0:
            raise UserError(
                f"model.latent_dim={latent_dim}: z has {base.stages + 1} chunks; use a multiple of that"
            )
        if hierarchical and classes and not shared_dim:
            raise UserError(
                "model.shared_dim=0: with model.hierarchical=true the label needs a shared embedding"
            )
        if attention is None:
            attention = min(64, min(image_shape[1:]) // 2)
        self.generator = Generator(
            base,
            channels,
            self.latent_dim,
            [width * maps for maps in generator_multiples(base)],
            classes,
            chunk=chunk,
            shared_dim=shared_dim,
            attention=attention,
        )
        multiples, halving = discriminator_multiples(base)
        d_widths = [(width if d_width is None else d_width) * maps for maps in multiples]
        self.discriminator = Discriminator(
            base, channels, d_widths, halving, classes, wide=True, attention=attention
        )
        for network in (self.generator, self.discriminator):
            network.apply(init_orthogonal if init == "orthogonal" else init_normal)
        self.finish()

    def discriminator_loss(self, batch: Batch) -> Losses:
        with torch.no_grad():
            fake = self.fakes(batch)  # [B, C, H, W]
        real_logits, fake_logits = self.judge(batch["image"], fake, self.label(batch))
        return {"adversarial": self.loss.discriminator(real_logits, fake_logits)}

    def generator_loss(self, batch: Batch) -> Losses:
        fake_logits = self.logits(self.shown(self.fakes(batch)), self.label(batch))
        terms = {"adversarial": self.loss.generator(self.kept(fake_logits))}
        if self.orthogonal_weight:
            matrices = normalised_matrices(self.generator)  # all weights but the class embedding
            terms["orthogonal"] = self.orthogonal_weight * sum(
                (orthogonality(matrix) for matrix in matrices), start=fake_logits.new_zeros(())
            )
        return terms

    def generate(self, batch: Batch) -> Tensor:
        """`truncation` is the largest |z|."""
        z, threshold = batch["z"], batch.get("truncation")
        z = z if threshold is None else truncated(z, threshold)
        fake: Tensor = self.sampler(z, self.label(batch))
        return fake


def generator_multiples(base: Pyramid) -> list[int]:
    """Maps over `width` from the base grid up to the image: at 128 px 16, 16, 8, 4, 2, 1."""
    if is_small(base):
        return [4] * (base.stages + 1)
    blocks = [16, 8, 4, 2, 1] if base.stages <= 5 else [16, 8, 8, 4, 2, 1]
    blocks += [1] * (base.stages - len(blocks))
    return [16, *blocks[: base.stages]]


def discriminator_multiples(base: Pyramid) -> tuple[list[int], int]:
    """Maps over `width` behind each block, and how many of the blocks halve: at 128 px 1, 2, 4, 8, 16, 16, all but one."""
    if base.stages <= 5:
        return discriminator_widths(base, 4 if is_small(base) else 1, 16)
    return [1] * (base.stages - 6) + [1, 2, 4, 8, 8, 16, 16], base.stages


@torch.no_grad()
def init_orthogonal(layer: nn.Module) -> None:
    """Orthonormal filters; columns where there are more filters than inputs."""
    if isinstance(layer, nn.ConvTranspose2d):
        weight = layer.weight.transpose(0, 1)  # [O, I, 3, 3]
        weight.copy_(nn.init.orthogonal_(torch.empty(weight.shape, device=weight.device)))
    elif isinstance(layer, (nn.Conv2d, nn.Linear, nn.Embedding)):
        nn.init.orthogonal_(layer.weight)


def init_normal(layer: nn.Module) -> None:
    """Weights from N(0, 0.02)."""
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.Embedding)):
        nn.init.normal_(layer.weight, 0.0, 0.02)
