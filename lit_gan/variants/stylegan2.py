"""StyleGAN2: styles by modulated convolutions (Karras et al. 2020, arXiv:1912.04958), with the additions of ADA.

Configuration F of the paper: mapping network, modulated convolutions with demodulation, noise, skip generator, residual
discriminator with minibatch standard deviation, equalized learning rates, style mixing, lazy R1 and path-length
regularisation, EMA, truncation. Of StyleGAN2-ADA (arXiv:2006.06676): `conditional`, the label embedded in the mapping and
projected by the discriminator, and `d_residual=false`, its discriminator for CIFAR-10; ADA itself is `augment`
(configs/arch/stylegan2-ada.yaml). With 512 maps at most both networks have the parameters of the official ones, one for
one. configs/arch/stylegan-lite.yaml is a small preset without path lengths.

Differs: the crossover of style mixing is drawn per sample; two regularisations share the pass of the loss that they
follow in the official code (R1) or run in float32 and of unmixed styles (path lengths), and both share its step of Adam,
where the official code takes another; doubling the summed images continues their edges, where the official filter pads
zeros; noise is constant outside training; fakes are labelled as the batch is; bfloat16 instead of float16, so nothing is
clamped. Left out: finding the w of a given image.
"""

from __future__ import annotations

from collections import abc
from math import sqrt
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from lit_gan.losses import LOSSES
from lit_gan.module import AdversarialModule, Batch, Losses
from lit_gan.networks.conv import channels_last
from lit_gan.networks.equalized import SQRT2, EqualizedConv, EqualizedLinear, lrelu
from lit_gan.networks.mapping import Mapping, second_styles
from lit_gan.networks.minibatch import minibatch_std
from lit_gan.networks.resample import Blur, Down, up
from lit_gan.networks.shape import pyramid, widths_of
from lit_gan.penalties import OWN
from lit_gan.settings import Optim

TAPS = (1, 3, 3, 1)


class ModulatedConv(nn.Module):
    """A convolution whose input maps each sample scales, then each output map to unit norm of its weights.

    Equations 1 and 3 of the paper, as one ordinary convolution between two scalings: (w * s) x = w (s * x).
    """

    def __init__(self, w_in: int, w_out: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.randn(w_out, w_in, kernel, kernel)
        )  # demodulation makes it scale-free
        self.bias = nn.Parameter(torch.zeros(w_out))
        self.padding = kernel // 2

    def demodulation(self, style: Tensor) -> Tensor:
        """1 / |w * s| per sample and output map, [B, I] -> [B, O]: a matrix product, not [B, O, I, k, k]."""
        power = style.float().square() @ self.weight.float().square().sum((2, 3)).t()
        return (power.float() + 1e-8).rsqrt()

    def convolve(self, inputs: Tensor) -> Tensor:
        return F.conv2d(inputs, self.weight, padding=self.padding)

    def forward(self, inputs: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        """[B, I, H, W], [B, I] and noise that is scaled already, [B or 1, 1, H', W'] -> [B, O, H', W']."""
        h = self.convolve(inputs * style.to(inputs.dtype)[:, :, None, None])
        scale = SQRT2 * self.demodulation(style)
        h = torch.addcmul(noise.to(h.dtype), h, scale.to(h.dtype)[:, :, None, None])
        return lrelu(h + (SQRT2 * self.bias).to(h.dtype)[:, None, None])


class ModulatedUpConv(ModulatedConv):
    """The same after doubling the size: a transposed convolution, then the filter."""

    def __init__(self, w_in: int, w_out: int) -> None:
        super().__init__(w_in, w_out, 3)
        self.blur = Blur(w_out, TAPS, padding=1, gain=4.0)

    def convolve(self, inputs: Tensor) -> Tensor:
        blurred: Tensor = self.blur(F.conv_transpose2d(inputs, self.weight.transpose(0, 1), stride=2))
        return blurred


class ToImage(nn.Module):
    """A modulated 1x1 convolution without demodulation: [B, I, H, W] -> [B, C, H, W]."""

    def __init__(self, w_in: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, w_in, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.gain = 1 / sqrt(w_in)

    def forward(self, inputs: Tensor, style: Tensor) -> Tensor:
        scaled = inputs * (style * self.gain).to(inputs.dtype)[:, :, None, None]
        return F.conv2d(scaled, self.weight, self.bias)


class Generator(nn.Module):
    """z [B, Z] (and labels [B]) -> images [B, C, H, W], around [-1, 1] but not bounded.

    Fresh noise in training, constant noise in eval mode, where no random number is drawn.
    """

    w_mean: Tensor  # [W], what truncation goes towards
    noise: Tensor  # [1, sum of areas], of inference
    layer_of_column: Tensor

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        latent_dim: int,
        w_dim: int,
        mapping_depth: int,
        mapping_lr: float,
        width: int,
        max_width: int,
    ) -> None:
        super().__init__()
        base = pyramid(image_shape, variant="stylegan2")
        widths = widths_of(base, width, max_width)
        self.mapping = Mapping(latent_dim, num_classes, w_dim, mapping_depth, lr_multiplier=mapping_lr)
        self.register_buffer("w_mean", torch.zeros(w_dim))
        self.constant = nn.Parameter(torch.randn(1, widths[0], base.height, base.width))

        self.convs = nn.ModuleList([ModulatedConv(widths[0], widths[0], 3)])
        self.to_images = nn.ModuleList([ToImage(widths[0], image_shape[0])])
        sizes, styles, layers = [base.size(0)], [widths[0], widths[0]], [0, 1]  # layer: the index of its w
        for stage in range(1, base.stages + 1):
            w_in, w_out = widths[stage - 1], widths[stage]
            self.convs += [ModulatedUpConv(w_in, w_out), ModulatedConv(w_out, w_out, 3)]
            self.to_images.append(ToImage(w_out, image_shape[0]))
            sizes += [base.size(stage)] * 2
            styles += [w_in, w_out, w_out]
            layers += [
                2 * stage - 1,
                2 * stage,
                2 * stage + 1,
            ]  # an image shares w with the next
        self.layers = 2 * base.stages + 2
        # All affine layers from w to styles in one: one product, and mixing selects among its columns.
        self.affine = EqualizedLinear(w_dim, sum(styles), bias=1.0)
        self.style_widths, self.style_layers, self.sizes = styles, layers, sizes
        self.areas = [height * width for height, width in sizes]
        self.strength = nn.Parameter(torch.zeros(len(sizes)))  # of the noise, per convolution
        self.register_buffer("noise", torch.randn(1, sum(self.areas)))
        of_column = [layer for layer, width in zip(layers, styles, strict=True) for _ in range(width)]
        self.register_buffer("layer_of_column", torch.tensor(of_column), persistent=False)

    def forward(
        self,
        z: Tensor,
        label: Tensor | None = None,
        *,
        mixed: tuple[Tensor, Tensor] | None = None,
        truncation: Tensor | None = None,
    ) -> Tensor:
        """`mixed`: a second z [B, Z] and the layer [B] where it takes over; `truncation`: psi."""
        if mixed is None:
            w = self.mapping(z, label)
            styles = self.affine(self.truncated(w, truncation))  # [B, sum of widths]
        else:
            other, crossover = mixed
            label2 = torch.cat([label, label]) if label is not None else None
            w = self.mapping(torch.cat([z, other]), label2)
            first, second = self.affine(w).chunk(2)
            styles = torch.where(self.layer_of_column < crossover[:, None], first, second)
        if self.training:
            self.w_mean.lerp_(w.detach().float().mean(0), 0.005)  # the paper's 0.995 per batch
        return self.synthesise(styles)

    def styles_of(self, ws: Tensor) -> Tensor:
        """Styles [B, sum of widths] where every layer has a w of its own, [B, L, W]."""
        every = self.affine(ws.flatten(0, 1)).view(len(ws), ws.shape[1], -1)  # [B, L, sum of widths]
        styles: Tensor = every.gather(1, self.layer_of_column.expand(len(ws), 1, -1)).squeeze(1)
        return styles

    def truncated(self, w: Tensor, truncation: Tensor | None) -> Tensor:
        """w [B, W] drawn towards its mean."""
        return w if truncation is None else torch.lerp(self.w_mean.to(w.dtype), w, truncation.to(w.dtype))

    def synthesise(self, styles: Tensor) -> Tensor:
        """Images [B, C, H, W] of styles [B, sum of widths]."""
        noise = self.noise
        if self.training:
            noise = torch.randn(len(styles), noise.shape[1], device=styles.device)
        noises = [
            (part * strength).view(-1, 1, *size)
            for part, strength, size in zip(
                noise.to(styles.dtype).split_with_sizes(self.areas, 1),
                (SQRT2 * self.strength).to(styles.dtype).unbind(),
                self.sizes,
                strict=True,
            )
        ]
        style = styles.split_with_sizes(self.style_widths, 1)

        h = self.convs[0](self.constant.expand(len(styles), -1, -1, -1).to(styles.dtype), style[0], noises[0])
        images: Tensor = self.to_images[0](h, style[1])
        for stage in range(1, len(self.to_images)):
            h = self.convs[2 * stage - 1](h, style[3 * stage - 1], noises[2 * stage - 1])
            h = self.convs[2 * stage](h, style[3 * stage], noises[2 * stage])
            images = up(images) + self.to_images[stage](h, style[3 * stage + 1])
        return images


class Block(nn.Module):
    """Two 3x3 convolutions, the second halving, beside a 1x1 if `residual`: [B, I, H, W] -> [B, O, H/2, W/2]."""

    def __init__(self, w_in: int, w_out: int, *, residual: bool) -> None:
        super().__init__()
        self.conv1 = EqualizedConv(w_in, w_in, 3, gain=SQRT2)
        self.blur = Blur(w_in, TAPS, padding=2)
        # sqrt(2) of its activation, / sqrt(2) of the sum
        self.conv2 = EqualizedConv(w_in, w_out, 3, stride=2, gain=1.0 if residual else SQRT2)
        self.shortcut: nn.Sequential | None = None
        if residual:
            self.shortcut = nn.Sequential(Down(w_in), EqualizedConv(w_in, w_out, 1, bias=False))

    def forward(self, inputs: Tensor) -> Tensor:
        h = lrelu(self.conv2(self.blur(lrelu(self.conv1(inputs)))))
        return h if self.shortcut is None else torch.add(h, self.shortcut(inputs), alpha=1 / SQRT2)


class Discriminator(nn.Module):
    """[B, C, H, W] (and labels [B]) -> logits [B]."""

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        w_dim: int,
        mapping_depth: int,
        mapping_lr: float,
        width: int,
        max_width: int,
        group: int,
        *,
        residual: bool,
    ) -> None:
        super().__init__()
        base = pyramid(image_shape, variant="stylegan2")
        widths = widths_of(base, width, max_width)
        self.from_image = EqualizedConv(image_shape[0], widths[-1], 1, gain=SQRT2)
        stages = range(base.stages, 0, -1)
        self.blocks = nn.Sequential(*(Block(widths[i], widths[i - 1], residual=residual) for i in stages))
        self.group = group
        self.conv = EqualizedConv(widths[0] + 1, widths[0], 3, gain=SQRT2)
        self.dense = EqualizedLinear(widths[0] * base.height * base.width, widths[0], gain=SQRT2)
        self.embed: Mapping | None = None
        if num_classes:  # projection: the logit is the product of the features with the embedded label
            self.embed = Mapping(0, num_classes, w_dim, mapping_depth, lr_multiplier=mapping_lr)
        self.head = EqualizedLinear(widths[0], w_dim if num_classes else 1)

    def forward(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        h = self.blocks(lrelu(self.from_image(channels_last(images))))
        h = lrelu(self.conv(minibatch_std(h, self.group)))
        h = lrelu(self.dense(h.flatten(1)))
        with torch.autocast(h.device.type, enabled=False):
            out: Tensor = self.head(h.float())
            if self.embed is None:
                return out.squeeze(1)
            w: Tensor = self.embed(None, label)
            return (out * w).sum(1) / sqrt(w.shape[1])


class StyleGAN2(AdversarialModule):
    optim_defaults: ClassVar[Optim] = Optim(
        lr=2e-3, beta1=0.0, beta2=0.99, ema_half_life=10_000.0, ema_ramp=None
    )
    path_mean: Tensor  # a, the running mean of the path lengths
    truncates: ClassVar[bool] = True
    refuses: abc.Mapping[str, str] = {
        **OWN,
        "z_consistency": "whose generator draws noise beside z",
        "z_diversity": "whose generator draws noise beside z",
    }

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (3, 256, 256),
        num_classes: int = 0,
        conditional: bool = False,  # on the label
        latent_dim: int = 512,
        w_dim: int = 512,
        mapping_depth: int = 8,
        mapping_lr: float = 0.01,  # multiplies the learning rate of the mapping network
        d_mapping_depth: int = 8,  # of the discriminator's label embedding
        d_residual: bool = True,  # false: no branch beside the convolutions, for small images
        width: int = 64,  # maps at the resolution of the image, doubled at each halving
        max_width: int = 512,
        style_mixing: float = 0.9,  # share of samples that have two styles
        r1_gamma: float = 10.0,
        penalty: Literal["exact", "approx"] = "exact",  # of R1: the gradient itself, or finite differences
        sigma: float = 0.01,  # noise of the finite differences
        r1_interval: int = 16,  # discriminator steps from one R1 to the next
        path_weight: float = 2.0,  # of the path lengths' variance; 0: without
        path_interval: int = 4,  # generator steps from one to the next
        path_shrink: int = 2,  # of so many samples one has its path measured
        minibatch_group: int = 4,  # samples that the discriminator compares
        optim: dict[str, object] | None = None,
    ) -> None:
        super().__init__(optim)
        self.save_hyperparameters(logger=False)
        classes = self.condition(conditional, num_classes)
        self.loss = LOSSES["non_saturating"]
        self.latent_dim = latent_dim
        self.style_mixing, self.r1_gamma, self.r1_interval = style_mixing, r1_gamma, r1_interval
        self.penalty, self.sigma = penalty, sigma
        self.path_weight, self.path_interval, self.path_shrink = path_weight, path_interval, path_shrink
        self.register_buffer("path_mean", torch.zeros(()))
        of_g = (latent_dim, w_dim, mapping_depth, mapping_lr, width, max_width)
        of_d = (w_dim, d_mapping_depth, mapping_lr, width, max_width, minibatch_group)
        self.generator = Generator(image_shape, classes, *of_g)
        self.discriminator = Discriminator(image_shape, classes, *of_d, residual=d_residual)
        self.finish()

    def discriminator_loss(self, batch: Batch) -> Losses:
        label = self.label(batch)
        with torch.no_grad():
            fake = self.fakes(batch)  # [B, C, H, W]
        terms: Losses = {}
        if self.d_updates % self.r1_interval == 0:
            real_logits, slopes = self.sloped(
                batch["image"], label=label, penalty=self.penalty, sigma=self.sigma
            )
            # / 2 of the paper, x interval so that its average over time stays.
            terms["r1"] = self.r1_gamma / 2 * self.r1_interval * slopes.mean()
        else:
            real_logits = self.logits(self.shown(batch["image"]), label)
        # Real and fake in passes of their own: minibatch_std must not compare them with each other.
        fake_logits = self.logits(self.shown(fake), label)
        self.observe(real_logits, fake_logits)
        return {"adversarial": self.loss.discriminator(real_logits, fake_logits), **terms}

    def generator_loss(self, batch: Batch) -> Losses:
        fake_logits = self.logits(self.shown(self.fakes(batch)), self.label(batch))
        terms = {"adversarial": self.loss.generator(self.kept(fake_logits))}
        updates = self.d_updates // self.optim.d_steps_per_g_step  # of the generator, this one included
        if self.path_weight > 0 and updates % self.path_interval == 0:
            lengths = self.path_lengths(batch)
            terms["path_length"] = self.path_weight * self.path_interval * self.path_penalty(lengths)
        return terms

    def path_lengths(self, batch: Batch) -> Tensor:
        """|J_w^T y| of some fakes, [B / `path_shrink`]: how far an image moves with w, in a random direction y (eq. 4).

        Over the layers, which each have a w, the mean of squares is taken.
        """
        few = {key: value[:: self.path_shrink] for key, value in batch.items()}
        with self.exact():
            network: Any = self.generator
            w = network.mapping(self.latents(few), self.label(few))
            ws = w[:, None].expand(-1, network.layers, -1)  # [B, L, W]
            images = network.synthesise(network.styles_of(ws))
            y = torch.randn_like(images) / sqrt(images.shape[2] * images.shape[3])
            (slopes,) = torch.autograd.grad((images * y).sum(), ws, create_graph=True)
        lengths: Tensor = slopes.square().sum(2).mean(1).sqrt()
        return lengths

    def path_penalty(self, lengths: Tensor) -> Tensor:
        """Mean squared distance of `lengths` [B] from their running mean a, which moves first, as in ADA's code."""
        mean = torch.lerp(self.path_mean, lengths.mean(), 0.01)
        self.path_mean = mean.detach()
        return (lengths - mean).square().mean()

    def fakes(self, batch: Batch) -> Tensor:
        """A share of them of mixed styles."""
        z, mixed = self.latents(batch), None
        if self.style_mixing > 0:
            layers: Any = self.generator.layers
            crossover = second_styles(z, layers, self.style_mixing)
            mixed = (self.latents(batch), crossover)
        fake: Tensor = self.generator(z, self.label(batch), mixed=mixed)
        return fake

    def generate(self, batch: Batch) -> Tensor:
        fake: Tensor = self.sampler(batch["z"], self.label(batch), truncation=batch.get("truncation"))
        return fake.float().clamp(-1, 1)

    def styles(self, batch: Batch) -> Tensor:
        """w [B, W] as `generate` makes it, truncated where the batch says so."""
        network = cast(Generator, self.sampler)
        return network.truncated(network.mapping(batch["z"], self.label(batch)), batch.get("truncation"))

    def synthesise(self, w: Tensor, batch: Batch) -> Tensor:
        """Images [B, C, H, W] of w [B, W], as `generate` makes them but not clamped."""
        network = cast(Generator, self.sampler)
        return network.synthesise(network.affine(w)).float()

    def configure_optimizers(self) -> list[Optimizer]:
        d_lr = self.optim.d_lr or self.optim.lr
        lazy = self.path_interval if self.path_weight > 0 else None
        return [
            self.make_optimizer(self.discriminator.parameters(), d_lr, lazy_interval=self.r1_interval),
            self.make_optimizer(self.generator.parameters(), self.optim.lr, lazy_interval=lazy),
        ]
