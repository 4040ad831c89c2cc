"""GAT: transformers alone in both players, guided at several depths (Hyun et al. 2026, arXiv:2509.24935).

The generator's tokens know their places and nothing else; z and the label, mapped to c, modulate every block. After
each quarter of its blocks a head adds to the image, and the discriminator judges the four images at once, the early
ones under much noise and the last under almost none (multi-level noise-perturbed guidance): early blocks have to get
the coarse structure right. Relativistic pairs, with R1 and R2 by finite differences at a small noise: no second
backward pass, so that compiled and fused attention work. The learning rate falls with the width: `optim.lr` is that
of width 768. Presets, patch 2 in the paper: S 12 blocks of 384 with 6 heads, B 12 of 768 with 12, L 24 of 1024 with
16, XL 28 of 1152 with 16.

On latents, as in the paper (`data=latents`, docs/latents.md), its samples are not clipped; set `output_gain` to 1 there.

Left out: the alignment of the discriminator's features with DINOv2's on reals, which the paper's best figures have;
guidance at sampling. Differs: in pixels the heads start at a quarter of the paper's scale, which is that of latents;
each player's step draws its own z; a depth that 4 does not divide places its heads evenly; the running mean of c
follows both players' steps; reals and fakes are augmented apart, as in the paper, where `r3gan` here shows pairs
alike; the discriminator's step is in float32; psi = 1 is no truncation, as everywhere here. `penalty: exact` takes the
gradient itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import Optimizer

from lit_gan.errors import UserError
from lit_gan.losses import relativistic_discriminator, relativistic_generator
from lit_gan.module import AdversarialModule, Batch, Losses
from lit_gan.networks.attention import Attention, RMSNorm, Rotary, SwiGLU, position_table, rms_norm
from lit_gan.networks.spectral import Embedding
from lit_gan.penalties import OWN, finite_difference, squared_norm
from lit_gan.settings import Optim

LEVELS = 4  # images that the generator makes on its way
T = tuple(1 - 0.125 ** (1 - i / (LEVELS - 1)) + 0.01 for i in range(LEVELS))  # noise of each: t_i
LR_WIDTH = 768  # where the learning rate is optim.lr


class SlowLinear(nn.Linear):
    """A linear layer that learns at `lr_multiplier` of the rate: its weights are stored that much larger."""

    def __init__(self, features: int, units: int, lr_multiplier: float = 0.01) -> None:
        super().__init__(features, units)
        nn.init.xavier_uniform_(self.weight, 1 / lr_multiplier)
        nn.init.zeros_(self.bias)
        self.lr_multiplier = lr_multiplier

    def forward(self, inputs: Tensor) -> Tensor:
        return self.lr_multiplier * super().forward(inputs)


def embedding(num_classes: int, dim: int) -> Embedding:
    table = Embedding(num_classes, dim)
    nn.init.normal_(table.weight, std=0.02)
    return table


def modulation(dim: int, units: int) -> nn.Linear:
    """What c says to a block; small at first, so that blocks start near the identity."""
    layer = nn.Linear(dim, units)
    nn.init.xavier_uniform_(layer.weight, 0.1)
    nn.init.zeros_(layer.bias)
    return layer


def init_xavier(layer: nn.Module) -> None:
    if isinstance(layer, nn.Linear):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)


class GeneratorBlock(nn.Module):
    """Attention and SwiGLU, their inputs scaled and their outputs gated by c: h + g * f((1 + s) * norm(h))."""

    def __init__(self, dim: int, heads: int, rotary: Rotary) -> None:
        super().__init__()
        self.attention, self.mlp = Attention(dim, heads, rotary), SwiGLU(dim)
        self.apply(init_xavier)
        self.modulate = modulation(dim, 4 * dim)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        s1, g1, s2, g2 = self.modulate(F.silu(c))[:, None].chunk(4, dim=-1)  # [B, 1, D] each
        h = h + g1 * self.attention(rms_norm(h) * (1 + s1))
        out: Tensor = h + g2 * self.mlp(rms_norm(h) * (1 + s2))
        return out


class Head(nn.Module):
    """Tokens [B, T, D] and c [B, D] -> patches [B, T, p * p * C]."""

    def __init__(self, dim: int, units: int, gain: float) -> None:
        super().__init__()
        self.scale = modulation(dim, dim)
        self.to_pixels = nn.Linear(dim, units)
        nn.init.xavier_uniform_(self.to_pixels.weight, gain)
        nn.init.zeros_(self.to_pixels.bias)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        pixels: Tensor = self.to_pixels(rms_norm(h) * (1 + self.scale(F.silu(c))[:, None]))
        return pixels


class Generator(nn.Module):
    """z [B, Z] (and labels [B]) -> images [B, C, H, W], around [-1, 1]: one a level, the last is the result."""

    position: Tensor
    c_mean: Tensor  # [K or 1, D], what truncation goes towards

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        latent_dim: int,
        dim: int,
        depth: int,
        heads: int,
        patch: int,
        gain: float,
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.grid, self.patch = (height // patch, width // patch), patch
        self.embed = embedding(num_classes, latent_dim) if num_classes else None
        inputs = latent_dim * (2 if num_classes else 1)
        self.mapping = nn.Sequential(SlowLinear(inputs, dim), nn.SiLU(), SlowLinear(dim, dim))
        self.register_buffer("position", position_table(*self.grid, dim), persistent=False)
        self.register_buffer("c_mean", torch.zeros(max(num_classes, 1), dim))
        rotary = Rotary(*self.grid, dim // heads)
        self.blocks = nn.ModuleList(GeneratorBlock(dim, heads, rotary) for _ in range(depth))
        self.heads_after = [
            depth * level // LEVELS for level in range(1, LEVELS + 1)
        ]  # blocks before each head
        self.heads = nn.ModuleList(Head(dim, patch**2 * channels, gain) for _ in range(LEVELS))

    def forward(
        self, z: Tensor, label: Tensor | None = None, truncation: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        c = self._mapped(z, label)
        if truncation is not None:
            c = torch.lerp(self.c_mean[self._row(label)].expand_as(c), c, truncation)
        h = self.position.expand(len(z), -1, -1)  # [B, T, D]
        levels: list[Tensor] = []
        for depth, block in enumerate(self.blocks, 1):
            h = block(h, c)
            while len(levels) < LEVELS and self.heads_after[len(levels)] == depth:
                patches = self.heads[len(levels)](h, c)
                levels.append(levels[-1] + patches if levels else patches)
        return tuple(self._image(patches) for patches in levels)

    def _mapped(self, z: Tensor, label: Tensor | None) -> Tensor:
        parts = [rms_norm(z)] if self.embed is None else [rms_norm(self.embed(label)), rms_norm(z)]
        with torch.autocast(z.device.type, enabled=False):
            c: Tensor = self.mapping(torch.cat(parts, dim=1).float())
        if self.training:
            self._follow(c.detach(), label)
        return c

    @staticmethod
    def _row(label: Tensor | None) -> Tensor | int:
        """Which of the means: the class's, or one for all where there are none or labels are vectors."""
        return 0 if label is None or label.is_floating_point() else label

    def _follow(self, c: Tensor, label: Tensor | None) -> None:
        """Moves the mean of every class in the batch by 0.005 towards the batch's."""
        row = self._row(label)
        rows = row if isinstance(row, Tensor) else c.new_zeros(len(c), dtype=torch.int64)
        total = torch.zeros_like(self.c_mean).index_add_(0, rows, c)
        n = c.new_zeros(len(total), 1).index_add_(0, rows, c.new_ones(len(c), 1))
        self.c_mean.lerp_(torch.where(n > 0, total / n.clamp_min(1), self.c_mean), 0.005)

    def _image(self, patches: Tensor) -> Tensor:
        """[B, rows * columns, p * p * C] -> [B, C, H, W]."""
        p, (rows, columns) = self.patch, self.grid
        grid = patches.view(len(patches), rows, columns, p, p, -1)
        return grid.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), -1, rows * p, columns * p)


class DiscriminatorBlock(nn.Module):
    """Attention and SwiGLU in residual branches that start at a tenth (LayerScale)."""

    def __init__(self, dim: int, heads: int, rotary: Rotary) -> None:
        super().__init__()
        self.norm1, self.attention = RMSNorm(dim), Attention(dim, heads, rotary)
        self.norm2, self.mlp = RMSNorm(dim), SwiGLU(dim)
        self.apply(init_xavier)
        self.scale1, self.scale2 = (nn.Parameter(torch.full((dim,), 0.1)) for _ in range(2))

    def forward(self, h: Tensor) -> Tensor:
        h = h + self.scale1 * self.attention(self.norm1(h))
        out: Tensor = h + self.scale2 * self.mlp(self.norm2(h))
        return out


class Discriminator(nn.Module):
    """All levels on the channels [B, 4 * C, H, W] (and labels [B]) -> logits [B]: one for all levels together."""

    position: Tensor

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        dim: int,
        depth: int,
        heads: int,
        patch: int,
        label_dim: int,
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        grid = height // patch, width // patch
        self.patches = nn.Conv2d(LEVELS * channels, dim, patch, stride=patch)
        nn.init.xavier_uniform_(self.patches.weight.view(dim, -1).detach())
        nn.init.zeros_(self.patches.bias)  # type: ignore[arg-type]
        self.register_buffer("position", position_table(*grid, dim), persistent=False)
        self.class_token = nn.Parameter(0.02 * torch.randn(dim))
        rotary = Rotary(*grid, dim // heads, prefix=1)
        self.blocks = nn.Sequential(*(DiscriminatorBlock(dim, heads, rotary) for _ in range(depth)))
        self.norm = RMSNorm(dim)
        self.head = nn.Linear(dim, label_dim if num_classes else 1)
        init_xavier(self.head)
        self.embed: nn.Sequential | None = None
        if num_classes:
            layers = SlowLinear(label_dim, label_dim), nn.SiLU(), SlowLinear(label_dim, label_dim)
            self.embed = nn.Sequential(embedding(num_classes, label_dim), *layers)

    def forward(self, levels: Tensor, label: Tensor | None = None) -> Tensor:
        tokens = self.patches(levels).flatten(2).transpose(1, 2) + self.position  # [B, T, D]
        h = torch.cat([self.class_token.to(tokens.dtype).expand(len(tokens), 1, -1), tokens], dim=1)
        first = self.blocks(h)[:, 0]
        with torch.autocast(first.device.type, enabled=False):  # the penalty divides differences by 0.01
            out: Tensor = self.head(self.norm(first.float()))
            return out.squeeze(1) if self.embed is None else (out * self.embed(label)).sum(1)


class GAT(AdversarialModule):
    optim_defaults: ClassVar[Optim] = Optim(
        lr=2e-4, beta1=0.0, beta2=0.99, clip_norm=1.0, ema_half_life=355_000.0, ema_ramp=None
    )
    truncates: ClassVar[bool] = True
    bounded: ClassVar[bool] = False
    relative: ClassVar[bool] = True
    refuses: Mapping[str, str] = {
        **OWN,
        "top_k": "whose loss compares pairs",
        "consistency": "which judges all levels of its generator together",
        "fake_consistency": "which judges all levels of its generator together",
        "z_consistency": "which judges all levels of its generator together",
        "z_diversity": "which judges all levels of its generator together",
    }

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (4, 32, 32),
        num_classes: int = 0,
        conditional: bool = False,  # on the label
        latent_dim: int = 64,
        width: int = 384,  # of the tokens, in both players
        depth: int = 12,  # blocks of each player
        heads: int = 6,  # of each attention
        patch: int = 2,  # pixels a side of a token
        label_dim: int = 2048,  # of the discriminator's projection
        output_gain: float = 0.25,  # of the heads at first; 1 for latents of unit variance
        gamma: float = 0.1,  # weight of R1 and of R2
        penalty: Literal["approx", "exact"] = "approx",  # finite differences, or the gradient itself
        sigma: float = 0.01,  # noise of the finite differences
        optim: dict[str, object] | None = None,
    ) -> None:
        super().__init__(optim)
        self.save_hyperparameters(logger=False)
        channels, rows, columns = image_shape
        if rows % patch or columns % patch or rows == columns == patch:
            raise UserError(
                f"gat cannot cut images of {rows}x{columns} pixels ({channels} channels) into patches of {patch}: "
                "set data.image_size to a multiple of it, or model.patch"
            )
        if width % (4 * heads) or depth < LEVELS:
            raise UserError(
                f"gat: model.width={width} must be a multiple of 4 x model.heads={heads}, and model.depth={depth} "
                f"at least {LEVELS}"
            )
        classes = self.condition(conditional, num_classes)
        self.latent_dim, self.width = latent_dim, width
        self.gamma, self.penalty, self.sigma = gamma, penalty, sigma
        size = (width, depth, heads, patch)
        self.generator = Generator(image_shape, classes, latent_dim, *size, output_gain)
        self.discriminator = Discriminator(image_shape, classes, *size, label_dim)
        self.finish()

    def discriminator_loss(self, batch: Batch) -> Losses:
        label = self.label(batch)
        with torch.no_grad():
            fake = self.levels(batch)
        real = batch["image"].to(fake[0].dtype)
        noise, fake_noise = self.noise((real,) * LEVELS), self.noise(fake)
        real_logits, r1 = self.judged([real], noise, label)
        fake_logits, r2 = self.judged(fake, fake_noise, label)
        self.observe(real_logits, fake_logits)
        return {
            "adversarial": relativistic_discriminator(real_logits, fake_logits),
            "r1": self.gamma / 2 * r1,
            "r2": self.gamma / 2 * r2,
        }

    def generator_loss(self, batch: Batch) -> Losses:
        label = self.label(batch)
        fake = self.levels(batch)
        real = (batch["image"].to(fake[0].dtype),) * LEVELS
        with torch.no_grad():
            real_logits = self.verdict(self.shown_alike(*real), self.noise(real), label)
        fake_logits = self.verdict(self.shown_alike(*fake), self.noise(fake), label)
        return {"adversarial": relativistic_generator(real_logits, fake_logits)}

    def judged(
        self, levels: Sequence[Tensor], noise: Sequence[Tensor], label: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Logits [B] and the mean squared norm of their gradient at `levels`, a scalar.

        One level is a real: it is all four at once, so that a step along it moves them together.
        """
        copies, given = LEVELS // len(levels), len(levels)
        if self.penalty == "exact":
            # attention written out: the fused kernels have no second derivative
            with self.exact(), sdpa_kernel(SDPBackend.MATH):
                inputs = torch.stack([level.float() for level in levels], dim=1).requires_grad_()
                logits = self.verdict(self.shown_alike(*inputs.unbind(1)) * copies, noise, label)
                return logits, squared_norm(logits, inputs).mean()
        # bfloat16 would round the logits by more than they differ, and be punished for it
        with torch.autocast(self.device.type, enabled=False):
            still = [level.float() for level in levels]
            moved = [level + self.sigma * torch.randn_like(level) for level in still]
            seen = self.shown_alike(*still, *moved)  # the same augmentation, and below the same noise
            both = [torch.cat(pair) for pair in zip(seen[:given], seen[given:], strict=True)]
            twice = [torch.cat([n, n]) for n in noise]
            labels = None if label is None else torch.cat([label, label])
            logits, moved_logits = self.verdict(both * copies, twice, labels).chunk(2)
            return logits, finite_difference(moved_logits, logits, self.sigma)

    def verdict(self, levels: Sequence[Tensor], noise: Sequence[Tensor], label: Tensor | None) -> Tensor:
        """Logits [B] of the levels, each under its noise."""
        noisy = [torch.add(n.to(x.dtype), x, alpha=1 - t) for t, x, n in zip(T, levels, noise, strict=True)]
        return self.logits(torch.cat(noisy, dim=1), label)

    @staticmethod
    def noise(levels: Sequence[Tensor]) -> list[Tensor]:
        """n_i of each level, N(0, t_i^2): a chain from the last, cleanest one up, in which noise is only added."""
        found: list[Tensor] = []
        later = torch.zeros_like(levels[-1])
        t_later = 0.0
        for t, level in zip(reversed(T), reversed(levels), strict=True):
            r = (1 - t) / (1 - t_later)
            later = r * later + sqrt(t**2 - (t_later * r) ** 2) * torch.randn_like(level)
            t_later = t
            found.append(later)
        return found[::-1]

    def levels(self, batch: Batch) -> tuple[Tensor, ...]:
        images: tuple[Tensor, ...] = self.generator(self.latents(batch), self.label(batch))
        return images

    def fakes(self, batch: Batch) -> Tensor:
        return self.levels(batch)[-1]

    def generate(self, batch: Batch) -> Tensor:
        levels: tuple[Tensor, ...] = self.sampler(batch["z"], self.label(batch), batch.get("truncation"))
        made = levels[-1].float()
        return made if self.decoder is not None else made.clamp(-1, 1)  # pixels end there, latents do not

    def configure_optimizers(self) -> list[Optimizer]:
        factor = LR_WIDTH / self.width
        return [
            self.make_optimizer(self.discriminator.parameters(), factor * (self.optim.d_lr or self.optim.lr)),
            self.make_optimizer(self.generator.parameters(), factor * self.optim.lr),
        ]
