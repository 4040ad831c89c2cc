"""Every gradient penalty against a discriminator whose gradient is known."""

from __future__ import annotations

from math import prod

import pytest
import torch
from torch import Tensor, nn

from lit_gan.module import AdversarialModule
from lit_gan.penalties import input_gradient, interpolate, one_centred, squared_norm
from tiny import tiny_batch, tiny_module

RANKS = pytest.mark.parametrize(
    "shape", [(7,), (1, 16), (3, 4, 6), (2, 3, 4, 5)], ids=["row", "audio", "image", "video"]
)


def linear(inputs: Tensor, weight: Tensor) -> Tensor:
    """D(x) = <w, x>, whose gradient is w everywhere: [B, ...] -> [B]."""
    return (inputs * weight).flatten(1).sum(1)


@RANKS
def test_r1_of_a_linear_discriminator_is_the_squared_norm_of_its_weights(shape: tuple[int, ...]) -> None:
    weight, inputs = torch.randn(shape), torch.randn(5, *shape, requires_grad=True)

    penalty = squared_norm(linear(inputs, weight), inputs).mean()

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
    assert squared_norm(logits, inputs).mean().item() == 20.0
    assert one_centred(logits, inputs).item() == pytest.approx((1 + 25) / 2)


def test_penalties_can_be_minimised() -> None:
    weight, inputs = torch.randn(6, requires_grad=True), torch.randn(5, 6, requires_grad=True)

    squared_norm(linear(inputs, weight), inputs).mean().backward()

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


# minibatch_std over one sample: where it mixes samples, the differences are of each sample's own logit
APPROXIMATED = {
    "r3gan": (),
    "stylegan": ("model.minibatch_group=1", "model.first_stage=2"),
    "stylegan2": ("model.minibatch_group=1",),
}
approximated = pytest.mark.parametrize("arch", APPROXIMATED)


def judge(arch: str, *more: str) -> tuple[AdversarialModule, Tensor, Tensor | None]:
    """A module, a real and its label, if it reads labels."""
    module = tiny_module(arch, *APPROXIMATED[arch], *more)
    batch = tiny_batch(module, size=1)
    return module, batch["image"], module.label(batch)


@approximated
def test_differences_tend_to_the_gradients_of_every_variant_that_has_both(arch: str) -> None:
    module, image, label = judge(arch)
    logits, exact = module.sloped(image, label=label)

    draws = 3000
    with torch.no_grad():
        again, slopes = module.sloped(
            image.expand(draws, -1, -1, -1),
            label=None if label is None else label.expand(draws),
            penalty="approx",
        )

    torch.testing.assert_close(again[:1], logits.detach(), rtol=1e-4, atol=1e-5)
    assert slopes.mean().item() == pytest.approx(exact.item(), rel=0.12)  # squares of one normal: 2.6 %


@approximated
def test_differences_are_of_one_augmented_image_and_train_the_discriminator(arch: str) -> None:
    module, image, label = judge(arch, "augment=ada", "augment.p=1")
    _, exact = module.sloped(image, label=label)

    _, slopes = module.sloped(image, label=label, penalty="approx", sigma=1e-3)

    assert slopes.item() < 100 * exact.item()  # of two transforms: thousands of times
    slopes.mean().backward()
    assert any(p.grad is not None and p.grad.any() for p in module.discriminator.parameters())


@approximated
def test_approximate_penalty_is_a_setting_of_the_variant(arch: str) -> None:
    found = {}
    for how in ("exact", "approx"):
        module = tiny_module(arch, *APPROXIMATED[arch], f"model.penalty={how}")
        batch = tiny_batch(module)
        torch.manual_seed(3)
        found[how] = module.discriminator_loss(batch)

    torch.testing.assert_close(
        found["exact"]["adversarial"], found["approx"]["adversarial"], rtol=1e-4, atol=1e-5
    )
    assert 0 < found["approx"]["r1"] != found["exact"]["r1"]
