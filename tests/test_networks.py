"""Networks against their papers: parameter counts, and arithmetic against plain recomputation."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_gan.data.base import dequantised
from lit_gan.errors import UserError
from lit_gan.networks.conv import conv2d
from lit_gan.networks.equalized import EqualizedLinear
from lit_gan.networks.logits import Logits
from lit_gan.networks.maxout import Maxout
from lit_gan.networks.minibatch import minibatch_std
from lit_gan.networks.norm import ClassNorm
from lit_gan.networks.resample import Blur, Down, up
from lit_gan.networks.residual import DownConv, UpConv
from lit_gan.networks.shape import pyramid
from lit_gan.variants import VARIANTS
from lit_gan.variants.biggan import BigGAN
from lit_gan.variants.dcgan import DCGAN
from lit_gan.variants.gan import GAN
from lit_gan.variants.progan import ProGAN
from lit_gan.variants.r3gan import R3GAN, widths_of
from lit_gan.variants.r3gan import Block as R3Block
from lit_gan.variants.sagan import SAGAN
from lit_gan.variants.sngan import SNGAN
from lit_gan.variants.stylegan import StyleGAN
from lit_gan.variants.stylegan2 import ModulatedConv, ModulatedUpConv, StyleGAN2
from lit_gan.variants.wgan_gp import WGANGP
from tiny import tiny_module

TINY: dict[str, dict[str, Any]] = {
    "gan": {"widths": [16], "d_widths": [8]},
    "dcgan": {"width": 4},
    "wgan": {"width": 4},
    "cgan": {"z_width": 8, "label_width": 8, "width": 16, "d_image_units": 8, "d_units": 8, "num_classes": 3},
    "acgan": {"width": 16, "d_width": 4, "num_classes": 3},
    "infogan": {"width": 4, "dense": 16, "q_units": 8},
    "wgan-gp": {"width": 4},
    "stylegan2": {"width": 4, "max_width": 8, "latent_dim": 8, "w_dim": 8, "mapping_depth": 2},
    "progan": {"width": 4, "max_width": 8, "latent_dim": 8, "stable_images": 0, "fade_images": 0},
    "stylegan": {"width": 4, "max_width": 8, "latent_dim": 8, "w_dim": 8, "mapping_depth": 2}
    | {"stable_images": 0, "fade_images": 0},
    "sngan": {"width": 4, "d_width": 4},
    "sagan": {"width": 8, "d_width": 8, "conditional": False},
    "biggan": {"width": 2, "latent_dim": 12, "conditional": False},
    "r3gan": {"width": 8, "blocks": 1, "latent_dim": 8},
    "gat": {"width": 16, "heads": 2, "depth": 4, "patch": 4, "latent_dim": 8, "label_dim": 8},
}
NOISE = [name for name in VARIANTS if name in TINY]  # those that make images of noise
CONDITIONAL = ["wgan-gp", "sngan", "sagan", "biggan", "progan", "stylegan", "stylegan2", "r3gan"]
SHAPES = [(1, 28, 28), (3, 32, 32), (4, 20, 12), (3, 16, 36)]


def build(name: str, **keywords: Any) -> Any:
    module, _, cls = VARIANTS[name].partition(":")
    return getattr(importlib.import_module(module), cls)(**{**TINY[name], **keywords})


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


CIFAR: dict[str, Any] = {"image_shape": (3, 32, 32), "width": 64, "latent_dim": 80, "num_classes": 10}
CIFAR_SCRIPT = CIFAR | {"latent_dim": 128, "hierarchical": False, "shared_dim": 0, "attention": 0}
IMAGENET: dict[str, Any] = {"conditional": True, "num_classes": 1000, "width": 1536, "group_width": 32}
COUNTS: list[tuple[type, dict[str, Any], int, int]] = [
    (GAN, {"image_shape": (1, 28, 28)}, 2_503_984, 1_231_441),
    (
        GAN,
        {"image_shape": (2, 1, 1), "latent_dim": 2, "widths": [128] * 3}
        | {"discriminator": "leaky", "d_widths": [128] * 3},
        33_666,
        33_537,
    ),
    (DCGAN, {"image_shape": (3, 32, 32)}, 1_068_928, 663_296),
    (DCGAN, {"image_shape": (3, 64, 64)}, 3_576_704, 2_765_568),
    (DCGAN, {"image_shape": (3, 64, 64), "width": 128}, 12_658_432, 11_036_160),
    (WGANGP, {}, 1_204_483, 1_053_825),
    (WGANGP, {"conditional": True, "num_classes": 10}, 1_218_307, 1_055_115),
    (WGANGP, {"width": 256, "d_width": 128}, 4_276_739, 1_053_825),
    (ProGAN, {"image_shape": (3, 64, 64), "width": 256}, 22_490_383, 22_498_049),
    (ProGAN, {"image_shape": (3, 128, 128), "width": 128}, 22_933_394, 22_941_313),
    (ProGAN, {"image_shape": (3, 256, 256), "width": 64}, 23_044_309, 23_052_353),
    (ProGAN, {}, 23_079_115, 23_087_249),
    (ProGAN, {"image_shape": (3, 64, 64), "width": 512}, 25_440_783, 25_448_449),
    (ProGAN, {"image_shape": (3, 256, 256), "width": 128}, 27_654_549, 27_662_977),
    (ProGAN, {"width": 32}, 27_793_275, 27_801_889),
    (StyleGAN, {"image_shape": (3, 64, 64), "width": 256}, 25_137_935, 22_498_049),
    (StyleGAN, {"image_shape": (3, 128, 128), "width": 128}, 25_843_858, 22_941_313),
    (StyleGAN, {"image_shape": (3, 256, 256), "width": 64}, 26_086_229, 23_052_353),
    (StyleGAN, {}, 26_219_627, 23_087_249),
    (StyleGAN2, {"image_shape": (3, 32, 32), "width": 512}, 21_523_475, 21_507_073),
    (StyleGAN2, {"image_shape": (3, 64, 64), "width": 256}, 23_819_544, 23_407_361),
    (SNGAN, {}, 4_276_739, 1_053_825),
    (SNGAN, {"image_shape": (3, 48, 48)}, 4_878_083, 10_141_441),
    (SNGAN, {"image_shape": (3, 64, 64)}, 12_220_675, 10_141_441),
    (SNGAN, {"image_shape": (3, 128, 128)}, 32_150_787, 29_017_857),
    (SNGAN, {"conditional": True, "num_classes": 10}, 4_304_387, 1_055_105),
    (SNGAN, {"conditional": True, "num_classes": 100}, 4_580_867, 1_066_625),
    (SAGAN, {"num_classes": 1000}, 42_078_852, 39_463_618),
    (SAGAN, {"num_classes": 1000, "attention": 64, "d_attention": 64}, 42_017_412, 39_448_258),
    (SAGAN, {"num_classes": 10, "image_shape": (3, 32, 32)}, 4_386_308, 1_075_586),
    (BigGAN, CIFAR_SCRIPT | {"num_classes": 10}, 4_304_387, 4_207_361),
    (BigGAN, CIFAR_SCRIPT | {"num_classes": 100}, 4_580_867, 4_230_401),
    (BigGAN, CIFAR | {"attention": 0}, 4_287_235, 4_207_361),
    # The authors' code has attention behind all four blocks of this discriminator, three times 81,921 more: 4,535,045.
    (BigGAN, CIFAR, 4_369_156, 4_289_282),
    (BigGAN, {"num_classes": 1000, "image_shape": (3, 64, 64), "width": 64}, 31_969_540, 20_571_842),
    (BigGAN, {"num_classes": 1000, "image_shape": (3, 64, 64)}, 70_377_348, 45_511_970),
    (BigGAN, {"num_classes": 1000}, 70_433_988, 87_982_370),
    (BigGAN, {"num_classes": 1000, "width": 64}, 31_978_628, 39_448_258),
    (BigGAN, {"num_classes": 1000, "image_shape": (3, 256, 256), "latent_dim": 140}, 82_235_844, 99_225_890),
    (R3GAN, {}, 20_732_160, 20_683_776),
    (R3GAN, {"conditional": True, "num_classes": 10}, 20_781_952, 21_280_512),
    (R3GAN, {"image_shape": (3, 64, 64)}, 22_429_824, 22_381_440),
    (R3GAN, {"image_shape": (3, 256, 256)}, 23_057_952, 23_009_568),
    (R3GAN, IMAGENET, 82_914_304, 86_548_992),
    (R3GAN, IMAGENET | {"image_shape": (3, 64, 64), "full_stages": 5}, 103_570_432, 107_205_120),
]


@pytest.mark.parametrize(("variant", "keywords", "generator", "discriminator"), COUNTS)
def test_parameter_counts_are_those_of_the_papers_networks(
    variant: Any, keywords: dict[str, Any], generator: int, discriminator: int
) -> None:
    with torch.device("meta"):
        module = variant(**keywords, optim={"ema_half_life": 0.0})

    assert (count(module.generator), count(module.discriminator)) == (generator, discriminator)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NOISE)
def test_networks_run_at_any_channels_and_non_square_sizes(name: str, shape: tuple[int, int, int]) -> None:
    module = build(name, image_shape=shape)
    batch = {"image": torch.rand(4, *shape) * 2 - 1, "label": torch.tensor([0, 1, 2, 0])}

    terms = {**module.discriminator_loss(batch), "g": module.generator_loss(batch)["adversarial"]}
    with torch.no_grad():
        fake = module.eval().generate({"z": torch.randn(4, module.latent_dim), "label": batch["label"]})

    assert all(term.isfinite() and term.shape == () for term in terms.values())
    assert fake.shape == (4, *shape)
    assert fake.abs().max() <= 1


@pytest.mark.parametrize("name", [name for name in NOISE if name not in ("gan", "cgan")])
def test_a_size_that_cannot_be_halved_is_an_error_that_names_it(name: str) -> None:
    with pytest.raises(UserError, match=r"30x7.*image_size"):
        build(name, image_shape=(3, 30, 7))


@pytest.mark.parametrize("name", CONDITIONAL)
def test_conditional_networks_read_the_label(name: str) -> None:
    module = build(name, image_shape=(3, 16, 16), conditional=True, num_classes=3)
    for parameter in module.parameters():
        if not parameter.any():  # branches that start at zero would hide the label
            nn.init.normal_(parameter, std=0.3)
    z, label = torch.randn(1, module.latent_dim).expand(3, -1), torch.arange(3)

    with torch.no_grad():
        fake = module.eval().generate({"z": z, "label": label})

    assert module.needs == ("image", "label")
    assert (fake[0] - fake[1]).abs().max() > 1e-4
    assert (fake[1] - fake[2]).abs().max() > 1e-4


@pytest.mark.parametrize("name", CONDITIONAL)
def test_conditional_on_unlabelled_data_is_an_error(name: str) -> None:
    with pytest.raises(UserError, match="labels"):
        build(name, image_shape=(3, 16, 16), conditional=True)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((32, 32), (4, 4, 3)),
        ((28, 28), (7, 7, 2)),
        ((20, 12), (10, 6, 1)),
        ((36, 36), (9, 9, 2)),
        ((256, 256), (4, 4, 6)),
    ],
)
def test_pyramid_halves_while_both_sides_are_even_and_stay_at_four_or_more(
    size: tuple[int, int], expected: tuple[int, int, int]
) -> None:
    assert pyramid((3, *size), variant="x") == expected


# -- resampling and convolutions ----------------------------------------------------------------------------


def test_up_keeps_constants_everywhere_and_down_in_the_interior() -> None:
    ones = torch.ones(1, 2, 8, 12)

    torch.testing.assert_close(up(ones), torch.ones(1, 2, 16, 24))
    torch.testing.assert_close(Down(2)(ones)[..., 1:-1, 1:-1], torch.ones(1, 2, 2, 4))


def test_up_and_down_filter_with_1331_in_the_interior() -> None:
    row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    kernel = torch.outer(row, row).repeat(3, 1, 1, 1)
    images = torch.randn(2, 3, 8, 10)

    down = F.conv2d(images, kernel, stride=2, padding=1, groups=3)
    bigger = F.conv_transpose2d(images, 4 * kernel, stride=2, padding=1, groups=3)

    torch.testing.assert_close(Down(3)(images), down)
    torch.testing.assert_close(up(images)[..., 1:-1, 1:-1], bigger[..., 1:-1, 1:-1])


def test_down_is_a_quarter_of_the_adjoint_of_up_in_the_interior() -> None:
    small, large = torch.randn(1, 1, 6, 6), torch.randn(1, 1, 12, 12)
    small[..., [0, -1], :] = small[..., :, [0, -1]] = 0  # at the edges, up continues and down pads with zeros

    torch.testing.assert_close((up(small) * large).sum(), 4 * (small * Down(1)(large)).sum())


def test_blur_sums_to_its_gain() -> None:
    blurred = Blur(2, (1, 3, 3, 1), padding=0, gain=4.0)(torch.ones(1, 2, 6, 6))

    torch.testing.assert_close(blurred, torch.full((1, 2, 3, 3), 4.0))


@pytest.mark.parametrize(
    ("stride", "padding", "groups", "kernel", "size"), [(1, 1, 2, 3, 4), (2, 0, 1, 3, 6), (2, 1, 4, 4, 6)]
)
def test_fast_convolution_has_the_derivatives_of_the_plain_one(
    stride: int, padding: int, groups: int, kernel: int, size: int
) -> None:
    inputs = torch.randn(2, 4, size, size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 4 // groups, kernel, kernel, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(4, dtype=torch.float64, requires_grad=True)

    def ours(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return conv2d(x, w, b, stride=stride, padding=padding, groups=groups)

    torch.testing.assert_close(
        ours(inputs, weight, bias), F.conv2d(inputs, weight, bias, stride, padding, 1, groups)
    )
    assert torch.autograd.gradcheck(ours, (inputs, weight, bias), fast_mode=True)
    assert torch.autograd.gradgradcheck(ours, (inputs, weight, bias), fast_mode=True)


def test_logits_are_float32_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = Logits(4, 1)(torch.randn(2, 4).bfloat16())

    assert logits.dtype == torch.float32


# -- gan ----------------------------------------------------------------------------------------------------


def test_maxout_is_the_largest_of_its_pieces() -> None:
    layer = Maxout(3, units=2, pieces=4)
    inputs = torch.randn(5, 3)

    expected = layer.linear(inputs).reshape(5, 2, 4).max(2).values

    torch.testing.assert_close(layer(inputs), expected)


def test_points_of_the_plane_have_an_unbounded_output() -> None:
    module = build("gan", image_shape=(2, 1, 1), latent_dim=2)

    assert not any(isinstance(layer, nn.Tanh) for layer in module.generator)
    assert module.generator(torch.randn(3, 2)).shape == (3, 2, 1, 1)


# -- wgan-gp ------------------------------------------------------------------------------------------------


def test_folded_resampling_is_the_plain_one() -> None:
    up_conv, down_conv = UpConv(3, 5).double(), DownConv(3, 5).double()
    inputs = torch.randn(2, 3, 6, 8, dtype=torch.float64)

    doubled = F.interpolate(inputs, scale_factor=2, mode="nearest")
    expected_up = F.conv2d(doubled, up_conv.weight.flip(2, 3).transpose(0, 1), up_conv.bias, padding=1)
    expected_down = F.avg_pool2d(F.conv2d(inputs, down_conv.weight, down_conv.bias, padding=1), 2)

    torch.testing.assert_close(up_conv(inputs), expected_up)
    torch.testing.assert_close(down_conv(inputs), expected_down)


def test_class_norm_starts_as_plain_batch_norm_and_then_scales_each_sample_by_its_class() -> None:
    norm, inputs, label = ClassNorm(3, 2), torch.randn(4, 3, 5, 5), torch.tensor([0, 1, 1, 0])
    plain = F.batch_norm(inputs, None, None, training=True)
    torch.testing.assert_close(norm(inputs, label), plain)

    with torch.no_grad():
        norm.gain[1], norm.shift[1] = 2.0, 0.5

    expected = torch.where(label[:, None, None, None] == 1, 2 * plain + 0.5, plain)
    torch.testing.assert_close(norm(inputs, label), expected)


@pytest.mark.parametrize("arch", ["dcgan", "wgan", "acgan", "infogan"])
def test_dcgans_initialisation_leaves_no_bias_and_knows_every_batch_norm(arch: str) -> None:
    module = tiny_module(arch)
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
    gains = [m.weight for m in module.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    assert gains
    assert all(0 < gain.std() < 0.1 for gain in gains)


def test_dequantised_levels_fill_the_range_without_overlap() -> None:
    levels = torch.arange(256).float()

    noisy = dequantised((levels / 127.5 - 1).expand(1000, -1))

    assert noisy.min() >= -1 - 1e-6
    assert noisy.max() <= 1 + 1e-6
    torch.testing.assert_close(((noisy + 1) * 128).floor().clamp(0, 255).median(0).values, levels)


def test_generator_batch_is_twice_the_critics() -> None:
    module, seen = build("wgan-gp", image_shape=(1, 8, 8)), []
    module.discriminator.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))

    module.generator_loss({"image": torch.zeros(3, 1, 8, 8)})

    assert seen == [6]


# -- stylegan2 ----------------------------------------------------------------------------------------------


def plain_modulated_conv(layer: ModulatedConv, inputs: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
    """Equations 1 and 3 of the paper, sample by sample: the weights, and the result before noise."""
    weights = layer.weight[None] * style[:, None, :, None, None]  # [B, O, I, k, k]
    weights = weights / (weights.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
    outputs = []
    for image, weight in zip(inputs, weights, strict=True):
        if isinstance(layer, ModulatedUpConv):
            raw = F.conv_transpose2d(image[None], weight.transpose(0, 1), stride=2)
            row = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=raw.dtype) / 4
            kernel = torch.outer(row, row).repeat(raw.shape[1], 1, 1, 1)
            outputs.append(F.conv2d(raw, kernel, padding=1, groups=raw.shape[1]))
        else:
            outputs.append(F.conv2d(image[None], weight, padding=1))
    return weights, torch.cat(outputs)


@pytest.mark.parametrize("layer", [ModulatedConv(4, 5, 3), ModulatedUpConv(4, 5)], ids=["same size", "up"])
def test_modulated_convolution_equals_a_convolution_per_sample(layer: ModulatedConv) -> None:
    layer = layer.double()
    nn.init.normal_(layer.bias)
    inputs, style = torch.randn(3, 4, 6, 6, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64) + 1
    weights, convolved = plain_modulated_conv(layer, inputs, style)
    noise = torch.randn(3, 1, *convolved.shape[2:], dtype=torch.float64)

    expected = 2**0.5 * F.leaky_relu(convolved + noise + layer.bias[:, None, None], 0.2)

    torch.testing.assert_close(layer(inputs, style, 2**0.5 * noise), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(weights.flatten(2).norm(dim=2), torch.ones(3, 5, dtype=torch.float64))


def test_equalized_layers_have_unit_gain_whatever_the_learning_rate_multiplier() -> None:
    inputs = torch.randn(4000, 64)

    for multiplier in (1.0, 0.01):
        layer = EqualizedLinear(64, 32, bias=0.5, lr_multiplier=multiplier)
        plain = F.linear(inputs, layer.weight * multiplier / 8, layer.bias * multiplier)

        torch.testing.assert_close(layer(inputs), plain, rtol=1e-4, atol=1e-4)
        assert (layer(inputs) - 0.5).std().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("batch", "group", "size"), [(8, 4, 4), (6, 4, 3), (5, 4, 1), (1, 4, 1)])
def test_minibatch_std_is_the_mean_deviation_within_each_group(batch: int, group: int, size: int) -> None:
    features = torch.randn(batch, 3, 2, 2)

    maps = minibatch_std(features, group)

    deviation = features.reshape(-1, size, 12).std(1, correction=0).mean(1).repeat_interleave(size)
    torch.testing.assert_close(maps[:, :3], features)
    torch.testing.assert_close(maps[:, 3], deviation[:, None, None].expand(-1, 2, 2), rtol=1e-4, atol=2e-4)


def test_noise_is_fresh_in_training_and_constant_in_inference() -> None:
    module = build("stylegan2", image_shape=(1, 8, 8))
    nn.init.ones_(module.generator.strength)
    z = torch.randn(2, 8)

    with torch.no_grad():
        trained = [module.generator(z) for _ in range(2)]
        module.eval()
        inferred = [module.generator(z) for _ in range(2)]

    assert not torch.equal(*trained)
    assert torch.equal(*inferred)


def test_truncation_zero_is_the_mean_image_and_one_changes_nothing() -> None:
    module = build("stylegan2", image_shape=(1, 8, 8)).eval()
    z = torch.randn(2, 8)

    with torch.no_grad():
        plain, mean, whole = (
            module.generate({"z": z} | ({} if psi is None else {"truncation": torch.tensor(psi)}))
            for psi in (None, 0.0, 1.0)
        )

    torch.testing.assert_close(whole, plain)
    torch.testing.assert_close(mean[0], mean[1])
    assert (plain[0] - plain[1]).abs().max() > 1e-3


def test_style_mixing_takes_the_second_style_from_the_crossover_on() -> None:
    module = build("stylegan2", image_shape=(1, 8, 8)).eval()
    generator, (first, second) = module.generator, torch.randn(2, 2, 8)
    layers = generator.layers

    with torch.no_grad():
        mixed = generator(first, mixed=(second, torch.tensor([layers, 0])))
        whole = generator(torch.stack([first[0], second[1]]))

    torch.testing.assert_close(mixed, whole)


def test_r1_comes_in_every_interval_th_step_with_its_weight_multiplied() -> None:
    module = build("stylegan2", image_shape=(1, 8, 8), r1_interval=2)
    batch = {"image": torch.rand(4, 1, 8, 8)}

    keys = []
    for module.d_updates in range(4):
        keys.append(list(module.discriminator_loss(batch)))

    assert keys == [["adversarial", "r1"], ["adversarial"]] * 2


# -- r3gan --------------------------------------------------------------------------------------------------


def test_r3gan_block_is_the_identity_at_initialisation() -> None:
    inputs = torch.randn(2, 16, 4, 4)

    torch.testing.assert_close(R3Block(16, 16, total=8)(inputs), inputs, rtol=0, atol=0)


def test_r3gan_initialisation_shrinks_with_the_number_of_blocks() -> None:
    for total, gain in ((8, 0.825), (10, 0.780), (14, 0.717)):
        block = R3Block(128, 16, total)

        assert block.expand.weight.std().item() * 128**0.5 == pytest.approx(gain, rel=0.05)
        assert block.spread.weight.std().item() * (16 * 9) ** 0.5 == pytest.approx(gain, rel=0.05)


def test_r3gan_schedules_run_from_start_to_end_over_decay_images() -> None:
    module = build("r3gan", image_shape=(1, 8, 8), optim={"decay_images": 1000, "ema_half_life": 80.0})
    optimizer = module.configure_optimizers()[0]

    seen = []
    for module.images_seen in (0, 500, 1000, 5000):
        module.schedule("d", optimizer)
        group = optimizer.param_groups[0]
        seen.append(
            (group["lr"], group["betas"][1], module.now(module.gamma, module.gamma_end), module.half_life())
        )

    expected = [(2e-4, 0.9, 0.05, 0.0), (1.25e-4, 0.945, 0.0275, 40.0), *[(5e-5, 0.99, 0.005, 80.0)] * 2]
    assert seen == [pytest.approx(row) for row in expected]


def test_r3gan_width_that_does_not_fit_its_groups_is_an_error() -> None:
    with pytest.raises(UserError, match="multiple of 8"):
        build("r3gan", image_shape=(3, 32, 32), width=12)


def test_r3gan_widths_halve_above_the_full_stages_and_keep_one_group() -> None:
    base = pyramid((3, 256, 256), variant="r3gan")

    assert widths_of(base, 768, 4, 16) == [768, 768, 768, 768, 384, 192, 96]
    assert widths_of(base, 96, 1, 16) == [96, 48, 24, 8, 8, 8, 8]
