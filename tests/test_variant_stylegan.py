"""StyleGAN's own arithmetic against plain recomputation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_gan.networks.shape import pyramid
from lit_gan.variants.stylegan import Generator, StyleGAN, adain


def tiny(**keywords: Any) -> StyleGAN:
    """Grown up, with noise and biases that have a say."""
    size: dict[str, Any] = {"image_shape": (1, 8, 8), "width": 4, "max_width": 8, "latent_dim": 6, "w_dim": 5}
    grown = {"mapping_depth": 2, "stable_images": 0, "fade_images": 0}
    module = StyleGAN(**{**size, **grown, **keywords})
    for parameter in module.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3)
    module.finish()
    return module


def test_mapping_has_the_parameters_of_the_official_one() -> None:
    with torch.device("meta"):
        generator = StyleGAN(image_shape=(3, 1024, 1024)).generator

    assert sum(p.numel() for p in generator.mapping.parameters()) == 2_101_248


def test_adain_gives_each_map_the_mean_and_deviation_of_its_style() -> None:
    features = torch.randn(3, 4, 6, 5, dtype=torch.float64) * 9 + 2
    style = torch.randn(3, 8, dtype=torch.float64)

    styled = adain(features, style)

    torch.testing.assert_close(styled.mean((2, 3)), style[:, 4:])
    torch.testing.assert_close(styled.std((2, 3), correction=0), (1 + style[:, :4]).abs())


def test_constant_begins_as_ones_and_noise_without_a_say() -> None:
    generator = StyleGAN(image_shape=(1, 8, 8), width=4, max_width=8).generator

    assert isinstance(generator, Generator)
    assert torch.equal(generator.constant, torch.ones(1, 8, 4, 4))
    assert not any(epilogue.strength.any() for epilogue in generator.epilogues)


def test_generator_is_the_plain_network_of_the_paper() -> None:
    base = pyramid((2, 12, 20), variant="x")
    network = Generator(
        2, base, num_classes=0, latent_dim=6, w_dim=5, mapping_depth=2, mapping_lr=0.01, width=4, max_width=8
    )
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    network.double().eval()
    z = torch.randn(3, 6, dtype=torch.float64)

    w = z / z.square().mean(1, keepdim=True).sqrt()
    for dense in network.mapping.layers:
        he = (2 / dense.weight.shape[1]) ** 0.5
        w = F.leaky_relu(w @ (0.01 * he * dense.weight).t() + 0.01 * dense.bias, 0.2)

    def epilogue(layer: int, h: Tensor, noise: Tensor) -> Tensor:
        e = network.epilogues[layer]
        h = F.leaky_relu(h + e.strength[:, None, None] * noise + e.bias[:, None, None], 0.2)
        h = (h - h.mean((2, 3), keepdim=True)) / (h.var((2, 3), correction=0, keepdim=True) + 1e-8).sqrt()
        ys, yb = (w @ e.style.weight.t() / 5**0.5 + e.style.bias).chunk(2, 1)
        return h * (ys[:, :, None, None] + 1) + yb[:, :, None, None]

    def conv(weight: Tensor, h: Tensor) -> Tensor:
        return F.conv2d(h, weight * (2 / weight[0].numel()) ** 0.5, padding=1)

    noise = [part.reshape(size) for part, size in zip(network.noise[0].split([60, 60, 240, 240]),
                                                      [(6, 10)] * 2 + [(12, 20)] * 2, strict=True)]  # fmt: skip
    h = epilogue(0, network.constant.expand(3, -1, -1, -1), noise[0])
    h = epilogue(1, conv(network.convs[0].weight, h), noise[1])
    row = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64) / 4
    h = conv(network.convs[1].conv.weight.flip(2, 3), F.interpolate(h, scale_factor=2, mode="nearest"))
    h = F.conv2d(h, torch.outer(row, row).repeat(4, 1, 1, 1), padding=1, groups=4)
    h = epilogue(2, h, noise[2])
    h = epilogue(3, conv(network.convs[2].weight, h), noise[3])
    last = network.to_images[1]
    expected = F.conv2d(h, last.weight / 4**0.5, last.bias)

    torch.testing.assert_close(network(z), expected, rtol=1e-6, atol=1e-6)


def test_noise_is_fresh_in_training_and_constant_in_inference() -> None:
    module, z = tiny(), torch.randn(2, 6)

    with torch.no_grad():
        trained = [module.generator(z) for _ in range(2)]
        module.eval()
        inferred = [module.generator(z) for _ in range(2)]

    assert not torch.equal(*trained)
    assert torch.equal(*inferred)


def test_mean_w_follows_training_and_not_inference() -> None:
    module, z = tiny(), torch.randn(4, 6)
    generator: Any = module.generator

    with torch.no_grad():
        mean = generator.styles(z).mean(0)
        generator(z)
        torch.testing.assert_close(generator.w_mean, 0.005 * mean)
        generator.eval()(z)

    torch.testing.assert_close(generator.w_mean, 0.005 * mean)


def test_truncation_draws_the_first_eight_layers_towards_the_mean_w() -> None:
    module = tiny(image_shape=(1, 64, 64))
    generator: Any = module.generator
    nn.init.normal_(generator.w_mean)
    w = torch.randn(3, 5)

    ws = generator.truncated(w, torch.tensor(0.7))

    assert ws.shape == (3, 10, 5)
    torch.testing.assert_close(
        ws[:, :8], (generator.w_mean + 0.7 * (w - generator.w_mean))[:, None].expand(-1, 8, -1)
    )
    torch.testing.assert_close(ws[:, 8:], w[:, None].expand(-1, 2, -1))


def test_truncation_zero_is_the_mean_image_and_one_changes_nothing() -> None:
    module = tiny().eval()
    z = torch.randn(2, 6)

    with torch.no_grad():
        plain, mean, whole = (
            module.generate({"z": z} | ({} if psi is None else {"truncation": torch.tensor(psi)}))
            for psi in (None, 0.0, 1.0)
        )

    torch.testing.assert_close(whole, plain)
    torch.testing.assert_close(mean[0], mean[1])
    assert (plain[0] - plain[1]).abs().max() > 1e-3


def test_style_mixing_takes_the_second_style_from_the_crossover_on() -> None:
    generator: Any = tiny().eval().generator
    first, second = torch.randn(2, 3, 6)

    with torch.no_grad():
        mixed = generator(first, mixed=(second, torch.tensor([4, 1, 0])))
        w, v = generator.styles(first), generator.styles(second)
        halves = torch.stack([torch.stack([w[i]] * n + [v[i]] * (4 - n)) for i, n in enumerate((4, 1, 0))])

    torch.testing.assert_close(mixed, generator.synthesise(halves))


def test_crossovers_lie_within_the_layers_that_are_active() -> None:
    module = tiny(image_shape=(1, 32, 32), stable_images=10, fade_images=10, style_mixing=1.0)
    generator: Any = module.generator
    crossovers: list[Tensor] = []
    generator.register_forward_pre_hook(lambda _, args: crossovers.append(args[4][1]))

    for module.images_seen in (0, 15, 100):
        module.fakes({"image": torch.zeros(200, 1, 32, 32)})

    assert [(int(c.min()), int(c.max())) for c in crossovers] == [(1, 3), (1, 5), (1, 7)]


def test_synthesise_of_the_styles_is_generate() -> None:
    module = tiny().eval()
    batch = {"z": torch.randn(3, 6)}

    with torch.no_grad():
        w = module.styles(batch)
        images = module.synthesise(w, batch)

    assert w.shape == (3, 5)
    assert torch.equal(images, module.generate(batch))


def test_discriminator_judges_by_the_logit_of_the_label() -> None:
    module = tiny(conditional=True, num_classes=3).eval()
    images, label = torch.randn(4, 1, 8, 8), torch.tensor([2, 0, 1, 1])

    scores = module.discriminator(images)

    assert scores.shape == (4, 3)
    assert torch.equal(module.logits(images, label), scores[torch.arange(4), label])


@pytest.mark.parametrize("images_seen", [0, 15, 100])
def test_r1_is_the_squared_slope_in_pixels_of_the_full_size(images_seen: int) -> None:
    module = tiny(image_shape=(1, 16, 16), stable_images=10, fade_images=10, r1_gamma=3.0)
    module.images_seen = images_seen
    batch = {"image": torch.rand(4, 1, 16, 16)}

    term = module.discriminator_loss(batch)["r1"]

    real = module.growth.shrunk(batch["image"], *module.stage()).requires_grad_()
    (slope,) = torch.autograd.grad(module.logits(real).sum(), real)
    torch.testing.assert_close(term, 1.5 * slope.square().sum((1, 2, 3)).mean())
