"""Every adversarial loss against what its formula says."""

from __future__ import annotations

from math import exp, log, log1p

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lit_gan.losses import LOSSES, relativistic_discriminator, relativistic_generator

AT_ZERO = {  # (discriminator, generator) where D says nothing
    "minimax": (2 * log(2), -log(2)),
    "non_saturating": (2 * log(2), log(2)),
    "hinge": (2.0, 0.0),
    "least_squares": (0.5, 0.5),
    "wasserstein": (0.0, 0.0),
}
SHAPES = [(6,), (6, 1), (6, 1, 3, 5)]
ALL = pytest.mark.parametrize("name", LOSSES)


@ALL
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_losses_at_zero_logits_have_their_analytic_values(name: str, shape: tuple[int, ...]) -> None:
    zeros = torch.zeros(shape)

    loss = LOSSES[name]

    discriminator, generator = AT_ZERO[name]
    assert loss.discriminator(zeros, zeros).item() == pytest.approx(discriminator)
    assert loss.generator(zeros).item() == pytest.approx(generator)


@ALL
def test_the_discriminator_wants_reals_up_and_fakes_down(name: str) -> None:
    real, fake = torch.zeros(4, requires_grad=True), torch.full((4,), 0.5, requires_grad=True)

    LOSSES[name].discriminator(real, fake).backward()

    assert real.grad is not None
    assert fake.grad is not None
    assert (real.grad < 0).all()
    assert (fake.grad > 0).all()


@ALL
def test_the_generator_wants_fakes_up(name: str) -> None:
    fake = torch.tensor([-2.0, 0.0, 0.5], requires_grad=True)

    LOSSES[name].generator(fake).backward()

    assert fake.grad is not None
    assert (fake.grad < 0).all()


@ALL
def test_losses_of_bfloat16_logits_are_float32(name: str) -> None:
    logits = torch.randn(8, generator=torch.Generator().manual_seed(0)).bfloat16()

    loss = LOSSES[name]

    assert loss.discriminator(logits, logits).dtype == torch.float32
    torch.testing.assert_close(loss.generator(logits), loss.generator(logits.float()), rtol=0, atol=0)


@ALL
def test_losses_stay_finite_at_extreme_logits(name: str) -> None:
    logits = torch.tensor([-1e4, 1e4], requires_grad=True)

    value = LOSSES[name].discriminator(logits, logits) + LOSSES[name].generator(logits)
    value.backward()

    assert value.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_logistic_losses_are_the_log_likelihoods_of_the_paper() -> None:
    real, fake = torch.tensor([0.3, -1.2]), torch.tensor([0.8, -0.4])
    log_likelihood = logsigmoid(real).mean() + (1 - fake.sigmoid()).log().mean()

    torch.testing.assert_close(LOSSES["minimax"].discriminator(real, fake), -log_likelihood)
    torch.testing.assert_close(LOSSES["minimax"].generator(fake), (1 - fake.sigmoid()).log().mean())
    torch.testing.assert_close(LOSSES["non_saturating"].generator(fake), -fake.sigmoid().log().mean())


def test_minimax_saturates_where_the_discriminator_is_sure_and_non_saturating_does_not() -> None:
    def slope(name: str) -> float:
        fake = torch.tensor([-10.0], requires_grad=True)
        LOSSES[name].generator(fake).backward()
        assert fake.grad is not None
        return abs(fake.grad.item())

    assert slope("minimax") == pytest.approx(1 / (1 + exp(10)), rel=1e-4)
    assert slope("non_saturating") == pytest.approx(1 / (1 + exp(-10)), rel=1e-4)


def test_hinge_gives_no_gradient_beyond_the_margin() -> None:
    real, fake = torch.tensor([1.5, 0.0], requires_grad=True), torch.tensor([-1.5, 0.0], requires_grad=True)

    LOSSES["hinge"].discriminator(real, fake).backward()

    assert real.grad is not None
    assert fake.grad is not None
    assert real.grad.tolist() == [0.0, -0.5]
    assert fake.grad.tolist() == [0.0, 0.5]


def test_least_squares_is_half_the_squared_distance_to_the_targets() -> None:
    real, fake = torch.tensor([0.0, 2.0]), torch.tensor([3.0, 1.0])

    assert LOSSES["least_squares"].discriminator(real, fake).item() == pytest.approx((1 + 5) / 2)
    assert LOSSES["least_squares"].generator(fake).item() == pytest.approx(4 / 2 / 2)


def test_wasserstein_is_the_difference_of_the_means() -> None:
    real, fake = torch.tensor([2.0, 4.0]), torch.tensor([1.0, 0.0])

    assert LOSSES["wasserstein"].discriminator(real, fake).item() == -2.5
    assert LOSSES["wasserstein"].generator(fake).item() == -0.5


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_relativistic_losses_at_equal_logits_are_log_two(shape: tuple[int, ...]) -> None:
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(0))

    assert relativistic_discriminator(logits, logits).item() == pytest.approx(log(2))
    assert relativistic_generator(logits, logits).item() == pytest.approx(log(2))


def test_relativistic_losses_depend_on_the_difference_within_each_pair_alone() -> None:
    real, fake = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0])
    shift = torch.tensor([10.0, -7.0])

    expected = (log1p(exp(-0.5)) + log1p(exp(5.0))) / 2

    assert relativistic_discriminator(real, fake).item() == pytest.approx(expected)
    assert relativistic_discriminator(real + shift, fake + shift).item() == pytest.approx(expected)
    assert relativistic_generator(fake, real).item() == pytest.approx(expected)


def test_relativistic_players_pull_in_opposite_directions() -> None:
    def gradients(loss: object) -> tuple[Tensor, Tensor]:
        real, fake = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
        loss(real, fake).backward()  # type: ignore[operator]
        assert real.grad is not None
        assert fake.grad is not None
        return real.grad, fake.grad

    d_real, d_fake = gradients(relativistic_discriminator)
    g_real, g_fake = gradients(relativistic_generator)

    assert (d_real < 0).all()
    assert (d_fake > 0).all()
    assert (g_fake < 0).all()
    assert (g_real > 0).all()
