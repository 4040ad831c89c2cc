"""WGAN: a critic that estimates the earth mover's distance, its weights clipped (Arjovsky et al. 2017, arXiv:1701.07875).

The networks of DCGAN, a critic without sigmoid or logarithm, RMSprop without momentum, five critic steps a generator
step, and after each of them every weight of the critic is clipped to [-c, c]. As in the authors' code the generator's
first 25 steps, and every 500th, follow 100 critic steps instead: the critic is to be near its optimum. Clipping is a
poor bound on a slope, as the authors say themselves; WGAN-GP has a better one.

Differs: the generator's step reuses the reals' batch size, and what comes with the DCGAN networks (kernels of 4). Left
out: the paper's perceptrons, and its generator without batch norm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from lit_gan.errors import UserError
from lit_gan.losses import LOSSES
from lit_gan.module import AdversarialModule, Batch, Losses, Player
from lit_gan.networks.dcgan import Discriminator, Generator, init_normal
from lit_gan.settings import Optim

LONG = 100  # critic steps before the generator's first steps, and before some later ones


class WGAN(AdversarialModule):
    relative: ClassVar[bool] = True
    optim_defaults: ClassVar[Optim] = Optim(
        name="rmsprop",
        lr=5e-5,
        beta2=0.99,
        d_steps_per_g_step=5,  # n_critic
    )
    refuses: Mapping[str, str] = dict.fromkeys(
        ("gradient_penalty", "dragan"), "whose clipped weights hold the slope far below 1"
    )

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] = (3, 64, 64),
        num_classes: int = 0,
        latent_dim: int = 100,
        width: int = 64,  # maps of the outermost layers, doubled at each halving of the image
        batch_norm: bool = True,  # in the critic
        clip: float = 0.01,  # c, the largest weight of the critic
        warm_up: int = 25,  # generator steps that follow 100 critic steps, at first
        long_every: int = 500,  # and then every so many generator steps; 0: never again
        optim: dict[str, object] | None = None,
    ) -> None:
        super().__init__(optim)
        self.save_hyperparameters(logger=False)
        if clip <= 0:
            raise ValueError(f"model.clip must be above 0, got {clip}")
        steps = self.optim.d_steps_per_g_step
        if (warm_up or long_every) and LONG % steps:
            raise UserError(
                f"optim.d_steps_per_g_step={steps} does not divide the {LONG} critic steps of wgan's long phases: use 5 "
                "or another divisor, or model.warm_up=0 model.long_every=0"
            )
        self.loss = LOSSES["wasserstein"]
        self.latent_dim = latent_dim
        self.clip, self.warm_up, self.long_every = clip, warm_up, long_every
        self.generator = Generator(image_shape, latent_dim, width, variant="wgan").apply(init_normal)
        self.discriminator = Discriminator(image_shape, width, batch_norm=batch_norm, variant="wgan").apply(
            init_normal
        )
        self.finish()

    def discriminator_loss(self, batch: Batch) -> Losses:
        with torch.no_grad():
            fake = self.fakes(batch)  # [B, C, H, W]
        real_logits, fake_logits = self.judge(batch["image"], fake)
        return {"adversarial": self.loss.discriminator(real_logits, fake_logits)}

    def generator_loss(self, batch: Batch) -> Losses:
        return {"adversarial": self.loss.generator(self.kept(self.logits(self.shown(self.fakes(batch)))))}

    @torch.no_grad()
    def after_step(self, player: Player) -> None:
        if player == "d":
            for parameter in self.discriminator.parameters():
                if parameter.requires_grad:  # not what optim.freeze_d holds
                    parameter.clamp_(-self.clip, self.clip)

    def generator_turn(self) -> bool:
        step = self.d_updates // self.optim.d_steps_per_g_step  # trainer steps so far, this one included
        return moves_generator(step, LONG // self.optim.d_steps_per_g_step, self.warm_up, self.long_every)


def moves_generator(step: int, long: int, warm_up: int, every: int) -> bool:
    """Whether trainer step `step` = 1, 2, ... ends in a generator step.

    Generator step j = 0, 1, ... takes `long` trainer steps if j < warm_up or `every` divides j, and 1 otherwise.
    """
    if step <= warm_up * long:
        return step % long == 0
    step -= warm_up * long
    if every == 0:
        return True
    short = -warm_up % every  # short ones before the first that `every` divides
    if step <= short:
        return True
    return (step - short - 1) % (long + every - 1) + 1 >= long
