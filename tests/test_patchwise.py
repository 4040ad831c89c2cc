"""The game on patches, against sums written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from lit_gan.module import AdversarialModule, Batch, Losses
from lit_gan.networks.patch import PatchDiscriminator
from lit_gan.patchwise import PatchGame


class Bare(AdversarialModule):
    """A module with a discriminator alone."""

    def __init__(self, discriminator: nn.Module) -> None:
        super().__init__()
        self.generator, self.discriminator = nn.Identity(), discriminator

    def discriminator_loss(self, batch: Batch) -> Losses:
        raise AssertionError

    def generator_loss(self, batch: Batch) -> Losses:
        raise AssertionError


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    return torch.randn(3, 2, 12, 16), torch.randn(3, 2, 12, 16)


def test_least_squares_are_halved_for_the_discriminator_alone(images):
    real, fake = images
    module = Bare(PatchDiscriminator(2, 4, 16, "instance"))
    game = PatchGame(module, "least_squares", 0.0)
    d_real, d_fake = module.discriminator(real), module.discriminator(fake)

    verdict = game.discriminator(module, module.discriminator, real, fake)

    expected = ((d_real - 1).square().mean() + d_fake.square().mean()) / 2
    assert verdict.terms["adversarial"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(verdict.real_logits, d_real, atol=1e-6)
    assert torch.allclose(verdict.fake_logits, d_fake, atol=1e-6)
    loss = game.generator(module, module.discriminator, real, fake)
    assert loss.item() == pytest.approx((d_fake - 1).square().mean().item(), rel=1e-5)


def test_likelihood_is_halved_for_the_discriminator_alone(images):
    real, fake = images
    module = Bare(PatchDiscriminator(2, 4, 16, "instance"))
    game = PatchGame(module, "non_saturating", 0.0)
    d_real, d_fake = module.discriminator(real), module.discriminator(fake)

    verdict = game.discriminator(module, module.discriminator, real, fake)

    expected = (softplus(-d_real).mean() + softplus(d_fake).mean()) / 2
    assert verdict.terms["adversarial"].item() == pytest.approx(expected.item(), rel=1e-5)
    loss = game.generator(module, module.discriminator, real, fake)
    assert loss.item() == pytest.approx(softplus(-d_fake).mean().item(), rel=1e-5)


def test_relativistic_pairs_are_patches_at_the_same_place_of_a_linear_discriminator(images):
    real, fake = images
    pixelwise = nn.Conv2d(2, 1, 1)  # patches that do not overlap: each penalty is exactly its own
    module = Bare(pixelwise)
    game = PatchGame(module, "relativistic", 3.0)

    verdict = game.discriminator(module, module.discriminator, real, fake)

    d_real, d_fake = pixelwise(real), pixelwise(fake)
    slope = 3.0 / 2 * pixelwise.weight.square().sum().item()
    assert list(verdict.terms) == ["adversarial", "r1", "r2"]
    pairs = softplus(d_fake - d_real).mean().item()
    assert verdict.terms["adversarial"].item() == pytest.approx(pairs, rel=1e-5)
    assert verdict.terms["r1"].item() == pytest.approx(slope, rel=1e-5)
    assert verdict.terms["r2"].item() == pytest.approx(slope, rel=1e-5)
    loss = game.generator(module, module.discriminator, real, fake)
    assert loss.item() == pytest.approx(softplus(d_real - d_fake).mean().item(), rel=1e-5)


def test_relativistic_game_changes_its_own_module_alone():
    relative, plain = (Bare(PatchDiscriminator(2, 4, 16, "instance")) for _ in range(2))

    PatchGame(relative, "relativistic", 1.0)
    PatchGame(plain, "hinge", 1.0)

    assert relative.relative
    assert {"dragan", "top_k"} <= set(relative.refuses)
    assert not plain.relative
    assert not plain.refuses
