"""Every gradient penalty against a discriminator whose gradient is known."""

from __future__ import annotations

from math import prod

import pytest
import torch
from torch import Tensor, nn

from lit_gan.penalties import input_gradient, interpolate, one_centred, squared_norm, zero_centred

RANKS = pytest.mark.parametrize(
    "shape", [(7,), (1, 16), (3, 4, 6), (2, 3, 4, 5)], ids=["row", "audio", "image", "video"]
)


def linear(inputs: Tensor, weight: Tensor) -> Tensor:
    """D(x) = <w, x>, whose gradient is w everywhere: [B, ...] -> [B]."""
    return (inputs * weight).flatten(1).sum(1)


@RANKS
def test_r1_of_a_linear_discriminator_is_the_squared_norm_of_its_weights(shape: tuple[int, ...]) -> None:
    weight, inputs = torch.randn(shape), torch.randn(5, *shape, requires_grad=True)

    penalty = zero_centred(linear(inputs, weight), inputs)

    torch.testing.assert_close(penalty, weight.square().sum())


@RANKS
def test_wgan_gp_of_a_linear_discriminator_is_the_squared_distance_of_its_norm_from_one(
    shape: tuple[int, ...],
) -> None:
    weight, inputs = torch.randn(shape), torch.randn(5, *shape, requires_grad=True)

    penalty = one_centred(linear(inputs, weight), inputs)

    torch.testing.assert_close(penalty, (weight.norm() - 1).square())


def test_wgan_gp_of_a_flat_discriminator_is_one_with_a_finite_gradient() -> None:
    weight, inputs = torch.zeros(4, requires_grad=True), torch.randn(5, 4, requires_grad=True)

    penalty = one_centred(linear(inputs, weight), inputs)
    penalty.backward()

    assert penalty.item() == pytest.approx(1.0, abs=1e-5)
    assert weight.grad is not None
    assert weight.grad.isfinite().all()


def test_penalties_are_per_sample_then_averaged() -> None:
    inputs = torch.tensor([[1.0], [3.0]], requires_grad=True)
    logits = inputs.square().sum(1)  # gradient 2x

    assert squared_norm(logits, inputs).tolist() == [4.0, 36.0]
    assert zero_centred(logits, inputs).item() == 20.0
    assert one_centred(logits, inputs).item() == pytest.approx((1 + 25) / 2)


def test_penalties_can_be_minimised() -> None:
    weight, inputs = torch.randn(6, requires_grad=True), torch.randn(5, 6, requires_grad=True)

    zero_centred(linear(inputs, weight), inputs).backward()

    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, 2 * weight.detach())


def test_input_gradient_sums_over_the_logits_of_a_sample() -> None:
    inputs = torch.randn(3, 1, 4, 4, requires_grad=True)
    patches = nn.functional.avg_pool2d(inputs, 2) * 4  # [3, 1, 2, 2]: each pixel counts once

    gradient = input_gradient(patches, inputs)

    torch.testing.assert_close(gradient, torch.ones(3, 16))


@RANKS
def test_interpolate_lies_on_the_segment_with_one_share_per_sample(shape: tuple[int, ...]) -> None:
    real, fake = torch.randn(64, *shape), torch.randn(64, *shape)

    points = interpolate(real, fake)

    shares = ((points - real) / (fake - real)).detach().flatten(1)
    assert points.is_leaf
    assert points.requires_grad
    assert points.shape == real.shape
    torch.testing.assert_close(shares, shares[:, :1].expand(-1, prod(shape)), rtol=0, atol=1e-2)
    assert shares.median(1).values.min() >= 0
    assert shares.median(1).values.max() <= 1
    assert shares.median(1).values.std() > 0.2


def test_interpolate_gives_no_gradient_to_its_ends() -> None:
    real, fake = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)

    interpolate(real, fake).sum().backward()

    assert real.grad is None
    assert fake.grad is None
