"""ProGAN's own arithmetic against plain recomputation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_gan.networks.shape import pyramid
from lit_gan.variants.progan import Generator, ProGAN, pixel_norm


def tiny(**keywords: object) -> ProGAN:
    shape = keywords.pop("image_shape", (1, 8, 8))
    return ProGAN(image_shape=shape, width=4, max_width=8, latent_dim=6, first_stage=1, **keywords)  # type: ignore[arg-type]


def test_pixel_norm_gives_every_pixel_unit_second_moment() -> None:
    features = torch.randn(2, 5, 3, 4, dtype=torch.float64) * 7

    normal = pixel_norm(features)

    torch.testing.assert_close(normal.square().mean(1), torch.ones(2, 3, 4, dtype=torch.float64))
    torch.testing.assert_close(normal / normal[:, :1], features / features[:, :1])


def test_generator_is_the_plain_network_of_the_paper() -> None:
    base = pyramid((3, 12, 20), variant="x")
    network = Generator(3, base, num_classes=0, latent_dim=6, width=4, max_width=8).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    z = torch.randn(3, 6, dtype=torch.float64)

    def layer(weight: Tensor, bias: Tensor, h: Tensor) -> Tensor:
        he = (2 / weight[0].numel()) ** 0.5
        return pixel_norm(F.leaky_relu(F.conv2d(h, weight * he, bias, padding=1), 0.2))

    unit = z / z.square().mean(1, keepdim=True).sqrt()
    dense = network.project
    h = (unit @ dense.weight.t() * (2 / 6) ** 0.5 / 4).reshape(3, 8, 6, 10)
    h = pixel_norm(F.leaky_relu(h + dense.bias[:, None, None], 0.2))
    h = layer(network.convs[0].weight, network.convs[0].bias, h)
    up = network.ups[0]
    h = layer(up.weight.flip(2, 3), up.bias, F.interpolate(h, scale_factor=2, mode="nearest"))
    h = layer(network.convs[1].weight, network.convs[1].bias, h)
    last = network.to_images[1]
    expected = F.conv2d(h, last.weight / 4**0.5, last.bias)

    torch.testing.assert_close(network(z), expected, rtol=1e-6, atol=1e-6)


class Plane(nn.Module):
    """D(x) = <slope, x>, with two class logits that are always 0 and ln 3."""

    def __init__(self, slope: Tensor) -> None:
        super().__init__()
        self.slope = nn.Parameter(slope)

    def forward(self, images: Tensor, stage: int, alpha: Tensor | None) -> Tensor:
        score = (images * self.slope).sum((1, 2, 3))
        return torch.stack([score, score * 0, score * 0 + torch.tensor(3.0).log()], dim=1)


@pytest.mark.parametrize("target", [1.0, 750.0])
def test_terms_of_a_linear_critic_are_those_of_the_paper(target: float) -> None:
    module = tiny(gp_target=target, conditional=True, num_classes=2)
    slope = torch.randn(1, 8, 8)
    module.discriminator = Plane(slope)
    batch = {"image": torch.randn(4, 1, 8, 8), "label": torch.tensor([0, 1, 1, 1])}

    terms = module.discriminator_loss(batch)

    scores = (batch["image"] * slope).sum((1, 2, 3))
    wrong, right = torch.log(torch.tensor([4.0, 4 / 3]))
    torch.testing.assert_close(terms["gradient_penalty"], 10 * (slope.norm() - target) ** 2 / target**2)
    torch.testing.assert_close(terms["drift"], 0.001 * scores.square().mean())
    torch.testing.assert_close(terms["class"], 2 * (wrong + 3 * right) / 4)
    torch.testing.assert_close(module.generator_loss(batch)["class"], (wrong + 3 * right) / 4)


def test_critic_is_penalised_between_reals_and_fakes_of_the_stage() -> None:
    module = tiny(image_shape=(1, 16, 16), stable_images=100, fade_images=100)
    seen: list[Tensor] = []
    module.discriminator.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))

    module.discriminator_loss({"image": torch.rand(4, 1, 16, 16)})

    assert len(seen) == 3
    for images in seen:  # at 8x8 pixels: each is repeated twice in both directions
        corner = images[:, :, ::2, ::2]
        torch.testing.assert_close(corner.repeat_interleave(2, 2).repeat_interleave(2, 3), images)


def test_unconditional_critic_has_one_score_and_no_class_term() -> None:
    module = tiny()
    batch = {"image": torch.rand(4, 1, 8, 8)}

    assert list(module.discriminator_loss(batch)) == ["adversarial", "gradient_penalty", "drift"]
    assert module.discriminator(batch["image"]).shape == (4, 1)
    assert module.logits(batch["image"]).shape == (4,)
