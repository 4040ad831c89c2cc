"""StyleGAN2's path lengths, its discriminator for CIFAR-10, and the parameters of the official networks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lit_gan.variants.stylegan2 import StyleGAN2
from tiny import state, tiny_batch, tiny_module, tiny_run


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("size", "keywords", "generator", "discriminator"),
    [
        (32, {"width": 512, "mapping_depth": 2}, 19_947_539, 21_507_073),
        (32, {"width": 512, "mapping_depth": 2, "d_residual": False}, 19_947_539, 20_720_641),
        (
            32,
            {"width": 512, "mapping_depth": 2, "d_residual": False, "conditional": True, "num_classes": 10},
            20_215_315,
            23_089_664,
        ),
        (64, {"width": 512}, 27_032_600, 26_488_833),
        (128, {"width": 128}, 24_525_213, 23_882_369),
        (256, {"width": 64}, 24_767_458, 24_001_089),
        (256, {"width": 128}, 30_034_338, 28_864_129),
        (512, {"width": 64}, 30_276_583, 28_982_849),
        (1024, {"width": 32}, 30_370_060, 29_012_513),
        (1024, {"width": 16}, 24_900_764, 24_038_161),
    ],
)
def test_parameter_counts_are_those_of_the_official_networks(
    size, keywords, generator, discriminator
) -> None:
    with torch.device("meta"):
        module = StyleGAN2(image_shape=(3, size, size), optim={"ema_half_life": 0.0}, **keywords)

    assert (count(module.generator), count(module.discriminator)) == (generator, discriminator)


def tiny(**keywords) -> StyleGAN2:
    torch.manual_seed(0)
    sizes = {"width": 4, "max_width": 8, "latent_dim": 8, "w_dim": 8, "mapping_depth": 2, "mapping_lr": 1.0}
    return StyleGAN2(image_shape=(1, 8, 8), **{**sizes, **keywords})


def test_one_w_for_all_layers_gives_the_styles_of_the_one_product() -> None:
    generator = tiny().generator
    w = torch.randn(3, 8)

    every = generator.styles_of(w[:, None].expand(-1, generator.layers, -1))
    torch.testing.assert_close(every, generator.affine(w))


def test_a_layers_w_moves_its_own_styles_alone() -> None:
    generator = tiny().generator
    ws = torch.randn(2, generator.layers, 8)
    moved = ws.clone()
    moved[:, 1] += 1

    changed = (generator.styles_of(ws) != generator.styles_of(moved)).any(0)
    assert torch.equal(changed, generator.layer_of_column == 1)


def test_path_lengths_are_the_slopes_of_images_in_w() -> None:
    module = tiny(path_shrink=1)
    generator = module.generator.eval()  # constant noise
    batch = {"image": torch.zeros(2, 1, 8, 8)}
    torch.manual_seed(3)
    found = module.path_lengths(batch)

    torch.manual_seed(3)
    w = generator.mapping(module.latents(batch)).detach().double()
    double = generator.double()
    y = torch.randn(2, 1, 8, 8) / 8
    ws = w[:, None].repeat(1, double.layers, 1)

    def along_y(ws: Tensor) -> Tensor:
        return (double.synthesise(double.styles_of(ws)) * y.double()).sum((1, 2, 3))  # [B]

    step, slopes = 1e-3, torch.zeros(2, double.layers, 8, dtype=torch.float64)
    with torch.no_grad():
        for layer in range(double.layers):
            for i in range(8):
                moved = ws.clone()
                moved[:, layer, i] += step
                back = ws.clone()
                back[:, layer, i] -= step
                slopes[:, layer, i] = (along_y(moved) - along_y(back)) / (2 * step)
    expected = slopes.square().sum(2).mean(1).sqrt()
    torch.testing.assert_close(
        found.detach().double(), expected, rtol=1e-3, atol=1e-6
    )  # demodulation is in float32


def test_the_penalty_is_the_spread_around_a_running_mean_that_moves_first() -> None:
    module = tiny()
    module.path_mean = torch.tensor(2.0)
    lengths = torch.tensor([1.0, 5.0], requires_grad=True)
    penalty = module.path_penalty(lengths)

    mean = 2 + 0.01 * (3 - 2)
    assert float(module.path_mean) == pytest.approx(mean)
    assert penalty.item() == pytest.approx(((1 - mean) ** 2 + (5 - mean) ** 2) / 2)
    penalty.backward()
    assert lengths.grad is not None


def test_paths_are_measured_in_every_so_many_generator_steps_on_a_part_of_the_batch() -> None:
    module = tiny(path_interval=4)
    batch = tiny_batch(module, (1, 8, 8), size=4)
    sizes: list[int] = []
    measure = module.path_lengths
    module.path_lengths = lambda batch: sizes.append(len(measure(batch))) or torch.ones(2)

    taken = []
    for updates in range(1, 9):
        module.d_updates = updates
        taken.append("path_length" in module.generator_loss(batch))
    assert taken == [False, False, False, True] * 2
    assert sizes == [2, 2]


def test_the_lazy_optimiser_of_the_generator_is_corrected_only_with_path_lengths() -> None:
    _, with_paths = tiny(path_interval=4).configure_optimizers()
    _, without = tiny(path_weight=0.0).configure_optimizers()

    assert with_paths.param_groups[0]["lr"] == pytest.approx(2e-3 * 4 / 5)
    assert with_paths.param_groups[0]["betas"] == pytest.approx((0.0, 0.99 ** (4 / 5)))
    assert without.param_groups[0]["lr"] == 2e-3


def test_path_lengths_survive_a_checkpoint(tmp_path) -> None:
    run = tiny_run("stylegan2", tmp_path, "run.images=64", "model.path_interval=2")

    assert float(state(run)["state_dict"]["path_mean"]) > 0


def test_style_space_gives_the_images_that_generate_makes() -> None:
    module = tiny_module("stylegan2").eval()
    batch = {"z": torch.randn(3, module.latent_dim), "truncation": torch.tensor(0.5)}

    with torch.no_grad():
        images = module.synthesise(module.styles(batch), batch)
        assert torch.equal(images.clamp(-1, 1), module.generate(batch))
