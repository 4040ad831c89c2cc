"""BigGAN's own: skip-z, orthogonality, truncation, standing statistics; and what SNGAN and SAGAN add to the blocks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lit_gan.ema import EMA
from lit_gan.errors import UserError
from lit_gan.networks.shape import pyramid
from lit_gan.networks.spectral import as_matrix, normalised_matrices
from lit_gan.regularisers import orthogonality
from lit_gan.sampling import STANDING, STANDING_SEED, inference, latents, sampling_batch, truncated
from lit_gan.variants.biggan import BigGAN, discriminator_multiples, generator_multiples
from lit_gan.variants.sagan import SAGAN
from lit_gan.variants.sngan import SNGAN
from tiny import tiny_batch, tiny_module


def build(**keywords: Any) -> BigGAN:
    torch.manual_seed(0)
    small: dict[str, Any] = {"image_shape": (1, 16, 16), "width": 2, "latent_dim": 12, "shared_dim": 4}
    module = BigGAN(**{**small, "num_classes": 3, "optim": {"ema_half_life": 20.0}, **keywords})
    module.standing_batches = 3
    return module


# -- networks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "g", "d"),
    [
        (32, [4] * 4, [4] * 4),
        (64, [16, 16, 8, 4, 2], [1, 2, 4, 8, 16]),
        (128, [16, 16, 8, 4, 2, 1], [1, 2, 4, 8, 16, 16]),
        (256, [16, 16, 8, 8, 4, 2, 1], [1, 2, 4, 8, 8, 16, 16]),
        (512, [16, 16, 8, 8, 4, 2, 1, 1], [1, 1, 2, 4, 8, 8, 16, 16]),
    ],
)
def test_maps_are_the_papers_multiples(side: int, g: list[int], d: list[int]) -> None:
    base = pyramid((3, side, side), variant="x")

    assert generator_multiples(base) == g
    assert discriminator_multiples(base) == (d, 2 if side == 32 else base.stages)


def test_each_chunk_of_z_acts_from_its_own_block_on() -> None:
    module = build(hierarchical=True)
    generator = module.generator.eval()
    outputs: list[Tensor] = []
    for block in generator.blocks:
        block.register_forward_hook(lambda *args: outputs.append(args[2]))
    z, label = torch.randn(2, 12), torch.tensor([0, 1])
    changed = z.clone()
    changed[:, 8:] += 1  # the third chunk of 4: the second block's

    with torch.no_grad():
        generator(z, label)
        generator(changed, label)

    assert torch.equal(outputs[0], outputs[2])
    assert not torch.allclose(outputs[1], outputs[3])


def test_all_norms_read_one_embedding_of_the_class() -> None:
    module = build()

    (embedding,) = (p for n, p in module.generator.named_parameters() if "embed" in n)

    assert embedding.shape == (3, 4)
    norms = [m for m in module.generator.blocks.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 4
    assert all(norm.weight is None for norm in norms)


def test_latents_are_rounded_down_to_whole_chunks_and_never_to_none() -> None:
    assert build(latent_dim=14).latent_dim == 12
    assert build(latent_dim=14, hierarchical=False).latent_dim == 14
    with pytest.raises(UserError, match="latent_dim=2"):
        build(latent_dim=2)


def test_skip_z_with_labels_but_no_shared_embedding_is_an_error() -> None:
    with pytest.raises(UserError, match="shared_dim=0"):
        build(shared_dim=0)


@pytest.mark.parametrize("hierarchical", [True, False])
def test_works_without_labels(hierarchical: bool) -> None:
    module = build(conditional=False, num_classes=0, hierarchical=hierarchical)
    batch = {"image": torch.rand(4, 1, 16, 16) * 2 - 1}

    assert module.needs == ("image",)
    assert module.discriminator_loss(batch)["adversarial"].isfinite()
    assert module.generator_loss(batch)["adversarial"].isfinite()
    assert not [name for name, _ in module.named_parameters() if "embed" in name]


@pytest.mark.parametrize(("variant", "players"), [(SNGAN, "d"), (SAGAN, "dg"), (BigGAN, "dg")])
def test_spectral_norm_stands_in_every_layer_of_the_players_that_have_it(variant: Any, players: str) -> None:
    module = variant(image_shape=(1, 16, 16), num_classes=3, conditional=True, width=8, latent_dim=12)
    networks = {"g": module.generator, "d": module.discriminator}
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.Embedding)

    for player, network in networks.items():
        layers = [(n, m) for n, m in network.named_modules() if isinstance(m, kinds)]
        expected = [n for n, _ in layers if not (player == "g" and n == "embed")] if player in players else []
        assert len(normalised_matrices(network)) == len(expected)


# -- orthogonality ------------------------------------------------------------------------------------------


def test_orthogonality_is_the_sum_of_squared_products_of_different_rows() -> None:
    w = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)

    found = orthogonality(w)
    (gradient,) = torch.autograd.grad(found, w)

    expected = sum((w[i] @ w[j]) ** 2 for i in range(4) for j in range(4) if i != j)
    off = w @ w.t() * (1 - torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, 4 * off @ w)


def test_orthogonality_of_orthogonal_filters_is_zero_whatever_their_norms() -> None:
    q = torch.linalg.qr(torch.randn(6, 4, dtype=torch.float64)).Q.t()

    assert orthogonality(torch.tensor([[1.0], [2.0], [0.1], [5.0]]) * q).item() == pytest.approx(0, abs=1e-20)


def test_initial_filters_are_orthonormal_and_the_term_counts_all_but_the_embedding() -> None:
    module = build(orthogonal_weight=0.5)
    batch = {"image": torch.rand(4, 1, 16, 16), "label": torch.tensor([0, 1, 2, 0])}
    matrices = [m.detach().double() for m in normalised_matrices(module.generator)]
    for matrix in matrices:
        few = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.t()
        torch.testing.assert_close(few @ few.t(), torch.eye(len(few)).double(), atol=1e-5, rtol=0)

    term = module.generator_loss(batch)["orthogonal"]

    gram = [m @ m.t() * (1 - torch.eye(len(m))) for m in matrices]
    assert term.item() == pytest.approx(0.5 * sum(g.square().sum().item() for g in gram), rel=1e-4)
    assert term > 0  # more filters than inputs somewhere
    with_embedding = [as_matrix(p) for n, p in module.generator.named_parameters() if p.ndim > 1]
    assert len(matrices) == len(with_embedding) - 1


# -- truncation ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [0.1, 0.5, 1.0, 2.0, 4.0])
def test_truncated_z_has_the_quantiles_of_the_truncated_normal(t: float) -> None:
    q = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)

    found = truncated(torch.special.ndtri(q), torch.tensor(t))

    outside = torch.special.ndtr(torch.tensor(-t, dtype=torch.float64))
    torch.testing.assert_close(torch.special.ndtr(found), outside + q * (1 - 2 * outside), atol=1e-6, rtol=0)
    assert found.abs().max() <= t


def test_wide_truncation_changes_nothing_and_zero_leaves_the_centre() -> None:
    z = torch.cat([torch.randn(1000), torch.tensor([-6.0, 6.0])])

    torch.testing.assert_close(truncated(z, torch.tensor(20.0)), z, rtol=1e-5, atol=1e-6)
    assert torch.equal(truncated(z, torch.tensor(0.0)), torch.zeros_like(z))
    assert truncated(z, torch.tensor(1.0)).isfinite().all()


def test_truncation_is_the_largest_z_that_the_generator_sees() -> None:
    module, seen = build(), []
    module.sampler.register_forward_pre_hook(lambda _, args: seen.append(args[0].abs().max().item()))

    with inference(module, truncation=0.3):
        module.generate(sampling_batch(module, 0, range(8), 3, truncation=0.3))

    assert len(seen) == 4  # three batches of the statistics, which are of truncated fakes too
    assert max(seen) <= 0.3
    assert min(seen) > 0.25


# -- standing statistics ------------------------------------------------------------------------------------


def test_standing_statistics_are_the_mean_over_batches_of_the_samplers_own_activations() -> None:
    module = build()
    norm, project = module.sampler.blocks[0].norm1, module.sampler.project
    z = latents(STANDING_SEED, range(3 * STANDING), module.latent_dim)

    with inference(module):
        mean, var = norm.running_mean.clone(), norm.running_var.clone()
        maps = project(z[:, : module.generator.chunk]).unflatten(1, module.generator.shape)

    batches = maps.double().split(STANDING)
    means = torch.stack([b.mean((0, 2, 3)) for b in batches]).mean(0)
    variances = torch.stack([b.var((0, 2, 3)) for b in batches]).mean(0)
    torch.testing.assert_close(mean.double(), means, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(var.double(), variances, rtol=1e-4, atol=1e-6)


def test_standing_statistics_leave_everything_as_it_was() -> None:
    module = build()
    module.ema = EMA(module.generator)
    batch = {"image": torch.rand(2, 1, 16, 16), "label": torch.tensor([0, 2])}
    total = module.discriminator_loss(batch)["adversarial"]
    before = {key: value.clone() for key, value in module.state_dict().items()}
    modes = {name: part.training for name, part in module.named_modules()}
    version = {name: b._version for name, b in module.named_buffers()}

    images = []
    for _ in range(2):
        with inference(module):
            images.append(module.generate(sampling_batch(module, 0, range(4), 3)))
    total.backward()  # nothing that autograd saved was written to

    assert torch.equal(*images)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert {name: part.training for name, part in module.named_modules()} == modes
    assert {name: b._version for name, b in module.named_buffers()} == version
    assert module.sampler.norm.momentum == 0.1


def test_statistics_are_put_back_when_making_them_fails() -> None:
    module = build()
    running = module.sampler.norm.running_mean
    module.sampler.blocks[1].register_forward_pre_hook(lambda *_: 1 / 0)

    with pytest.raises(ZeroDivisionError), inference(module):
        pass

    assert module.sampler.norm.running_mean is running
    assert not module.sampler.norm.training


def test_standing_statistics_are_of_the_truncation_in_use_and_can_be_left_out() -> None:
    module = build()
    seen = []
    for batches, truncation in ((3, None), (3, 0.5), (0, None)):
        module.standing_batches = batches
        with inference(module, truncation=truncation):
            seen.append(module.sampler.blocks[0].norm1.running_var.clone())

    assert not torch.allclose(seen[0], seen[1])
    assert torch.equal(seen[2], torch.ones_like(seen[2]))  # the running averages of an untrained network


def test_setting_chooses_the_batches_and_null_the_papers() -> None:
    chosen = tiny_module("biggan", "eval.standing_batches=7")
    default = tiny_module("biggan", "eval.standing_batches=null")
    other = tiny_module("dcgan", "eval.standing_batches=5")

    assert (chosen.standing_batches, default.standing_batches, other.standing_batches) == (7, 100, 5)
    assert tiny_module("dcgan").standing_batches == 0


def test_standing_statistics_serve_any_variant_with_batch_norm() -> None:
    module = tiny_module("dcgan", "eval.standing_batches=4")

    with inference(module):
        images = module.generate(sampling_batch(module, 0, range(256)))
        var = module.sampler[2].running_var.clone()

    module.sampler[0].register_forward_hook(lambda *args: seen.append(args[2]))
    seen: list[Tensor] = []
    module.sampler(sampling_batch(module, 1, range(2048))["z"])
    assert images.isfinite().all()
    torch.testing.assert_close(var, seen[0].unflatten(1, (len(var), -1)).var((0, 2)), rtol=0.3, atol=0)


# -- the average --------------------------------------------------------------------------------------------


def test_average_is_a_copy_until_it_starts() -> None:
    module = build(optim={"ema_half_life": 20.0, "ema_start": 100, "ema_ramp": None})

    seen = []
    for module.images_seen in (0, 100, 101):
        seen.append(module.half_life())

    assert seen == [0.0, 0.0, 20.0]


# -- sngan and sagan ----------------------------------------------------------------------------------------


def test_generator_batch_is_twice_the_discriminators() -> None:
    module, seen = tiny_module("sngan"), []
    module.discriminator.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))

    module.generator_loss(tiny_batch(module, size=3))

    assert seen == [6]


def test_discriminator_sees_dequantised_reals_of_256_levels() -> None:
    module, seen = tiny_module("sngan"), []
    module.discriminator.register_forward_pre_hook(lambda _, args: seen.append(args[0][:4]))
    batch = tiny_batch(module)
    batch["image"] = (batch["image"] * 127.5 + 127.5).round() / 127.5 - 1

    module.losses("d", batch)

    levels = ((seen[0] + 1) * 128).floor()
    torch.testing.assert_close(levels, (batch["image"] * 127.5 + 127.5).round())
    assert not torch.equal(seen[0], batch["image"])


def test_attention_stands_at_32_pixels_or_at_half_and_a_quarter_of_small_images() -> None:
    with torch.device("meta"):
        large = SAGAN(num_classes=3, optim={"ema_half_life": 0.0})
        small = SAGAN(num_classes=3, image_shape=(1, 32, 32), optim={"ema_half_life": 0.0})
        none = SAGAN(num_classes=3, image_shape=(1, 32, 32), attention=0, d_attention=0)

    assert (large.generator.place, large.discriminator.place) == (2, 1)
    assert (small.generator.place, small.discriminator.place) == (1, 1)
    assert (none.generator.place, none.discriminator.place) == (None, None)


def test_learning_rates_of_the_two_time_scales() -> None:
    d, g = SAGAN(image_shape=(1, 16, 16), conditional=False, width=8, d_width=8).configure_optimizers()

    assert (d.param_groups[0]["lr"], g.param_groups[0]["lr"]) == (4e-4, 1e-4)
