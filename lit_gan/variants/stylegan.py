"""StyleGAN: a generator that is styled at every resolution (Karras et al. 2019, arXiv:1812.04948).

Configuration F of the paper's table 1: a mapping network of slow learning rate, a learned constant instead of z,
adaptive instance normalisation (AdaIN) after every convolution, noise on every map, blurred resampling, style mixing,
truncation towards the mean w in the first eight layers; ProGAN's growing (arXiv:1710.10196) from 8x8 pixels on and its
discriminator; the non-saturating loss with R1 in every step. `conditional` is the official code's: a learned row for
each label beside z, and the label's among so many logits.

Left out: batches that shrink as the images grow (the official 512 at 8 pixels to 32 at 64 and above; here it is
`data.batch_size` throughout). A resampling beside a 3x3 convolution is folded into its kernel: the same function.
Differs: the crossover of style mixing is drawn per sample, noise is constant outside training, fakes are labelled as
the batch is.
"""

from __future__ import annotations

from collections import abc
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lit_gan.losses import LOSSES
from lit_gan.module import AdversarialModule, Batch, Losses, Player
from lit_gan.networks.condition import looked_up
from lit_gan.networks.equalized import SQRT2, EqualizedConv, EqualizedLinear, EqualizedUpConv, lrelu
from lit_gan.networks.growth import GrowingDiscriminator, Growth, Stage, blended, enlarged
from lit_gan.networks.mapping import Mapping, second_styles
from lit_gan.networks.resample import Blur
from lit_gan.networks.shape import Pyramid, pyramid, widths_of
from lit_gan.penalties import OWN
from lit_gan.settings import Optim

TRUNCATED_LAYERS = 8  # from the base grid on: what is finer than 32x32 pixels keeps its style


def adain(features: Tensor, style: Tensor) -> Tensor:
    """Each map of [B, C, H, W] to deviation |1 + ys| around yb, of style (ys, yb) [B, 2 C] (equation 1).

    In float32. The 1 is the official code's: styles begin around zero.
    """
    wide = features.to(torch.promote_types(features.dtype, torch.float32))
    centred = wide - wide.mean((2, 3), keepdim=True)
    normal = centred * (centred.square().mean((2, 3), keepdim=True) + 1e-8).rsqrt()
    ys, yb = style.to(wide.dtype)[:, :, None, None].chunk(2, dim=1)  # [B, C, 1, 1]
    return torch.addcmul(yb, normal, 1 + ys).to(features.dtype)


class Epilogue(nn.Module):
    """What follows every convolution, and the constant: noise, bias, leaky ReLU, AdaIN."""

    def __init__(self, width: int, w_dim: int) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(width))  # of the noise, per map (the paper's B)
        self.bias = nn.Parameter(torch.zeros(width))
        self.style = EqualizedLinear(w_dim, 2 * width)  # the paper's A

    def forward(self, inputs: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        """[B, C, H, W], [B, W] and [B or 1, 1, H, W] -> [B, C, H, W]."""
        strength, bias = (p.to(inputs.dtype)[:, None, None] for p in (self.strength, self.bias))
        return adain(lrelu(inputs + noise.to(inputs.dtype) * strength + bias), self.style(w))


class UpConv(nn.Module):
    """Nearest-neighbour doubling, a 3x3 convolution, the blur."""

    def __init__(self, w_in: int, w_out: int) -> None:
        super().__init__()
        self.conv = EqualizedUpConv(w_in, w_out, bias=False, gain=SQRT2)
        self.blur = Blur(w_out, (1, 2, 1), padding=1)

    def forward(self, inputs: Tensor) -> Tensor:
        blurred: Tensor = self.blur(self.conv(inputs))
        return blurred


class Generator(nn.Module):
    """z [B, Z] (and labels [B]) -> images [B, C, H, W] in full size, around [-1, 1] but not bounded.

    It has the layers of all stages from the start; without a stage it is grown up. Fresh noise in training, constant
    noise in eval mode, where no random number is drawn.
    """

    w_mean: Tensor  # [W], what truncation goes towards
    noise: Tensor  # [1, sum of areas], of inference

    def __init__(
        self,
        channels: int,
        base: Pyramid,
        *,
        num_classes: int,
        latent_dim: int,
        w_dim: int,
        mapping_depth: int,
        mapping_lr: float,
        width: int,
        max_width: int,
    ) -> None:
        super().__init__()
        widths = widths_of(base, width, max_width)
        self.rows = (
            nn.Parameter(torch.randn(num_classes, latent_dim)) if num_classes else None
        )  # of the labels
        self.mapping = Mapping(
            latent_dim * (2 if num_classes else 1),
            0,
            w_dim,
            mapping_depth,
            lr_multiplier=mapping_lr,
            bias_gain=1.0,
        )
        self.register_buffer("w_mean", torch.zeros(w_dim))
        self.constant = nn.Parameter(torch.ones(1, widths[0], base.height, base.width))
        self.convs = nn.ModuleList()  # after the constant: layer i is convs[i - 1]
        for stage, maps in enumerate(widths):
            if stage > 0:
                self.convs.append(UpConv(widths[stage - 1], maps))
            self.convs.append(EqualizedConv(maps, maps, 3, bias=False, gain=SQRT2))
        self.epilogues = nn.ModuleList(Epilogue(maps, w_dim) for maps in widths for _ in range(2))
        self.to_images = nn.ModuleList(EqualizedConv(maps, channels, 1) for maps in widths)
        self.sizes = [base.size(stage) for stage in range(base.stages + 1) for _ in range(2)]
        self.areas = [height * width for height, width in self.sizes]
        self.register_buffer("noise", torch.randn(1, sum(self.areas)))

    @property
    def layers(self) -> int:
        return len(self.epilogues)

    def forward(
        self,
        z: Tensor,
        label: Tensor | None = None,
        stage: int | None = None,
        alpha: Tensor | None = None,
        mixed: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """`mixed`: a second z [B, Z] and the layer [B] where it takes over."""
        w = self.styles(z, label)
        if self.training:
            self.w_mean.lerp_(w.detach().mean(0), 0.005)  # the official 0.995 per batch
        ws = w[:, None].expand(-1, self.layers, -1)  # [B, L, W]
        if mixed is not None:
            other, crossover = mixed
            first = torch.arange(self.layers, device=w.device) < crossover[:, None]  # [B, L]
            ws = torch.where(first[:, :, None], ws, self.styles(other, label)[:, None])
        return self.synthesise(ws, stage, alpha)

    def styles(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """z [B, Z] (and labels [B]) -> w [B, W]."""
        if self.rows is not None:
            assert label is not None
            z = torch.cat([z, looked_up(label, self.rows)], dim=1)
        w: Tensor = self.mapping(z)
        return w

    def truncated(self, w: Tensor, truncation: Tensor | None) -> Tensor:
        """w [B, W] for all layers, [B, L, W], that of the first eight drawn towards the mean by psi."""
        ws = w[:, None].expand(-1, self.layers, -1)
        if truncation is None:
            return ws
        coarse = torch.arange(self.layers, device=w.device)[:, None] < TRUNCATED_LAYERS  # [L, 1]
        return torch.where(coarse, torch.lerp(self.w_mean, w, truncation.to(w.dtype))[:, None], ws)

    def synthesise(self, ws: Tensor, stage: int | None = None, alpha: Tensor | None = None) -> Tensor:
        """w of all layers, [B, L, W] -> images [B, C, H, W]."""
        last = len(self.to_images) - 1
        stage = last if stage is None else stage
        active = 2 * stage + 2
        areas, noise = self.areas[:active], self.noise[:, : sum(self.areas[:active])]
        if self.training:
            noise = torch.randn(len(ws), noise.shape[1], device=ws.device)
        noises = [
            part.view(-1, 1, *size)
            for part, size in zip(noise.split_with_sizes(areas, 1), self.sizes[:active], strict=True)
        ]
        h = before = self.constant.expand(len(ws), -1, -1, -1)
        for layer in range(active):
            if layer == active - 2:
                before = h  # the end of the stage before
            h = self.convs[layer - 1](h) if layer else h
            h = self.epilogues[layer](h, ws[:, layer], noises[layer])
        images: Tensor = self.to_images[stage](h)
        if alpha is not None:
            images = blended(enlarged(self.to_images[stage - 1](before), 1), images, alpha)
        return enlarged(images, last - stage)


class StyleGAN(AdversarialModule):
    optim_defaults: ClassVar[Optim] = Optim(
        lr=1e-3, beta1=0.0, beta2=0.99, ema_half_life=10_000.0, ema_ramp=None
    )
    truncates: ClassVar[bool] = True
    refuses: abc.Mapping[str, str] = {
        **OWN,
        "z_consistency": "whose generator draws noise beside z",
        "z_diversity": "whose generator draws noise beside z",
    }

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (3, 1024, 1024),
        num_classes: int = 0,
        conditional: bool = False,  # on the label
        latent_dim: int = 512,
        w_dim: int = 512,
        mapping_depth: int = 8,
        mapping_lr: float = 0.01,  # multiplies the learning rate of the mapping network
        width: int = 16,  # maps at the resolution of the image, doubled at each halving
        max_width: int = 512,
        first_stage: int = 1,  # doublings of the base grid, 4x4, that training begins with
        stable_images: int = 600_000,  # that each stage is trained on
        fade_images: int = 600_000,  # over which the next one fades in; 0 and 0: nothing grows
        lr_factors: list[float] | None = None,  # of the learning rate, by stage; the last one holds on
        style_mixing: float = 0.9,  # share of samples that have two styles
        r1_gamma: float = 10.0,
        penalty: Literal["exact", "approx"] = "exact",  # of R1: the gradient itself, or finite differences
        sigma: float = 0.01,  # noise of the finite differences
        minibatch_group: int = 4,  # samples that the discriminator compares
        optim: dict[str, object] | None = None,
    ) -> None:
        super().__init__(optim)
        self.save_hyperparameters(logger=False)
        classes = self.condition(conditional, num_classes)
        self.loss = LOSSES["non_saturating"]
        self.latent_dim = latent_dim
        self.style_mixing, self.r1_gamma = style_mixing, r1_gamma
        self.penalty, self.sigma = penalty, sigma
        channels, base = image_shape[0], pyramid(image_shape, variant="stylegan")
        self.growth = Growth(first_stage, base.stages, stable_images, fade_images, lr_factors or (1.0,))
        self.generator = Generator(
            channels,
            base,
            num_classes=classes,
            latent_dim=latent_dim,
            w_dim=w_dim,
            mapping_depth=mapping_depth,
            mapping_lr=mapping_lr,
            width=width,
            max_width=max_width,
        )
        self.discriminator = GrowingDiscriminator(
            channels,
            base,
            width=width,
            max_width=max_width,
            group=minibatch_group,
            outputs=max(classes, 1),
            blur=True,
        )
        self.grows = self.growth.grows
        self.finish()

    def discriminator_loss(self, batch: Batch) -> Losses:
        label = self.label(batch)
        with torch.no_grad():
            fake = self.fakes(batch)  # [B, C, H, W]
        real_logits, slopes = self.sloped(
            self.reals(batch), label=label, penalty=self.penalty, sigma=self.sigma
        )
        r1 = self.r1_gamma / 2 * slopes.mean()
        # Real and fake in passes of their own: minibatch_std must not compare them with each other.
        fake_logits = self.logits(self.shown(fake), label)
        self.observe(real_logits, fake_logits)
        return {"adversarial": self.loss.discriminator(real_logits, fake_logits), "r1": r1}

    def generator_loss(self, batch: Batch) -> Losses:
        fake_logits = self.logits(self.shown(self.fakes(batch)), self.label(batch))
        return {"adversarial": self.loss.generator(self.kept(fake_logits))}

    def logits(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        """Of each label's logits, those of `label`; of a vector's, the sum weighed by it."""
        scores: Tensor = self.discriminator(images, *self.stage())
        if label is None:
            return scores[:, 0]
        if label.is_floating_point():
            return (scores * label.to(scores.dtype)).sum(1)
        return scores.gather(1, label[:, None])[:, 0]

    def reals(self, batch: Batch) -> Tensor:
        return self.growth.shrunk(super().reals(batch), *self.stage())

    def fakes(self, batch: Batch) -> Tensor:
        """A share of them of mixed styles."""
        z, stage, mixed = self.latents(batch), self.stage(), None
        if self.style_mixing > 0:
            layers = 2 * stage[0] + 2  # that are active
            crossover = second_styles(z, layers, self.style_mixing)
            mixed = (self.latents(batch), crossover)
        fake: Tensor = self.generator(z, self.label(batch), *stage, mixed)
        return fake

    def generate(self, batch: Batch) -> Tensor:
        return self.synthesise(self.styles(batch), batch)

    def styles(self, batch: Batch) -> Tensor:
        """w [B, W] of `batch["z"]` (and label), by the averaged weights, not truncated."""
        network: Any = self.sampler
        w: Tensor = network.styles(batch["z"], self.label(batch))
        return w

    def synthesise(self, w: Tensor, batch: Batch) -> Tensor:
        """What `generate` makes of w [B, W] in place of `batch["z"]`; truncated where the batch says so."""
        network: Any = self.sampler
        fake: Tensor = network.synthesise(network.truncated(w, batch.get("truncation")), *self.stage())
        return fake.float().clamp(-1, 1)

    def stage(self) -> Stage:
        """How far the networks have grown by now."""
        return self.growth.stage(self.images_seen, self.device)

    def schedule(self, player: Player, optimizer: Optimizer) -> None:
        super().schedule(player, optimizer)
        self.growth.adjust(player, optimizer, self.images_seen)
