"""WGAN's clipping and schedule, and the conditional networks of 2014 to 2017, against their papers."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lit_gan.errors import UserError
from lit_gan.variants.acgan import ACGAN
from lit_gan.variants.cgan import CGAN
from lit_gan.variants.infogan import InfoGAN, codes_of
from lit_gan.variants.wgan import WGAN, moves_generator
from tiny import state, tiny_batch, tiny_module, tiny_run

NO_AVERAGE = {"ema_half_life": 0.0}


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("variant", "keywords", "generator", "discriminator"),
    [
        (CGAN, {"num_classes": 10}, 2_413_984, 1_224_351),
        (ACGAN, {"num_classes": 10}, 2_994_051, 1_664_875),
        (InfoGAN, {}, 6_652_481, 6_559_169),
        (WGAN, {}, 3_576_704, 2_765_568),
        (WGAN, {"batch_norm": False}, 3_576_704, 2_763_776),
    ],
)
def test_parameter_counts_are_those_of_the_papers_networks(
    variant, keywords, generator, discriminator
) -> None:
    with torch.device("meta"):
        module = variant(**keywords, optim=NO_AVERAGE)

    assert (count(module.generator), count(module.discriminator)) == (generator, discriminator)
    if variant is InfoGAN:
        assert count(module.q) == 133_262


def told(moves: list[bool]) -> list[int]:
    """Trainer steps from each generator step to the next."""
    found, waited = [], 0
    for moved in moves:
        waited += 1
        if moved:
            found.append(waited)
            waited = 0
    return found


@pytest.mark.parametrize(("warm_up", "every"), [(25, 500), (0, 10), (10, 10), (3, 0), (0, 0), (7, 5)])
def test_the_generator_waits_for_long_phases_of_the_critic(warm_up: int, every: int) -> None:
    expected = [20 if j < warm_up or (every and j % every == 0) else 1 for j in range(1100)]
    moves = [moves_generator(step, 20, warm_up, every) for step in range(1, sum(expected) + 1)]

    assert told(moves) == expected


def test_every_weight_of_the_critic_is_clipped_after_its_step(tmp_path) -> None:
    weights = state(tiny_run("wgan", tmp_path, "run.images=80", "optim.lr=0.01", "model.clip=0.01"))[
        "state_dict"
    ]
    names = [n for n in weights if n.startswith("discriminator.") and "running" not in n and "num_" not in n]

    largest = max(float(weights[n].abs().max()) for n in names)
    assert largest == pytest.approx(0.01)
    assert max(float(weights[n].abs().max()) for n in weights if n.startswith("generator.")) > 0.02


def test_a_run_with_long_phases_ends_on_its_budget_and_moves_the_generator_as_often(tmp_path) -> None:
    settings = ["model.warm_up=2", "model.long_every=4", "optim.d_steps_per_g_step=50", "run.images=4000"]
    saved = state(tiny_run("wgan", tmp_path, *settings))  # 10 trainer steps of 50 critic steps of 8 images

    assert saved["lit_gan"]["images_seen"] == 4000
    moved = next(iter(saved["optimizer_states"][1]["state"].values()))["step"]
    assert int(moved) == sum(moves_generator(step, 2, 2, 4) for step in range(1, 11))


def test_critic_steps_that_do_not_make_a_hundred_are_refused() -> None:
    with pytest.raises(UserError, match="d_steps_per_g_step=3 does not divide the 100 critic steps"):
        WGAN(width=4, optim={"d_steps_per_g_step": 3})


@pytest.mark.parametrize("variant", [CGAN, ACGAN])
def test_variants_that_are_told_the_class_need_labels(variant) -> None:
    with pytest.raises(UserError, match="needs labels"):
        variant(num_classes=0)
    with pytest.raises(ValueError, match="is told the class"):
        variant(num_classes=10, conditional=False)


@pytest.mark.parametrize("arch", ["cgan", "acgan"])
def test_both_players_learn_the_class(arch: str) -> None:
    module = tiny_module(arch).eval()  # without dropout
    batch = tiny_batch(module)
    z = torch.randn(1, module.latent_dim).expand(2, -1)
    one, other = module.generator(z, torch.tensor([1, 2]))

    assert not torch.allclose(one, other)
    if arch == "cgan":
        image = batch["image"][:1].expand(2, -1, -1, -1)
        a, b = module.discriminator(image, torch.tensor([1, 2]))
        assert not torch.allclose(a, b)


def test_cgan_rests_its_dropout_and_normalises_its_generator_where_asked_to() -> None:
    plain, normed = (CGAN(num_classes=10, batch_norm=norm, g_dropout=0.0) for norm in (False, True))
    z, label = torch.randn(8, 100), torch.arange(8)

    assert count(normed.generator) - count(plain.generator) == 2 * (200 + 1000 + 1200)  # gains and biases
    assert torch.equal(plain.generator(z, label), plain.generator(z, label)), "no dropout in training"
    images = plain.generator(z, label)
    assert not torch.equal(plain.discriminator(images, label), plain.discriminator(images, label))
    hidden: list[torch.Tensor] = []
    normed.generator.joint_norm.register_forward_hook(lambda layer, given, made: hidden.append(made))
    normed.generator(z, label)
    assert torch.allclose(hidden[0].mean(0), torch.zeros(1200), atol=1e-5)


def test_acgan_names_the_class_of_reals_and_of_fakes() -> None:
    module = tiny_module("acgan").eval()
    batch = tiny_batch(module)
    torch.manual_seed(0)
    terms = module.discriminator_loss(batch)
    torch.manual_seed(0)
    fake = module.fakes(batch)

    expected = sum(
        F.cross_entropy(module.discriminator(x)[:, 1:], batch["label"]) for x in (batch["image"], fake)
    )
    assert terms["class"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_codes_are_evenly_drawn_and_apart_from_the_noise() -> None:
    z = torch.randn(50_000, 65, generator=torch.Generator().manual_seed(0))
    codes = codes_of(z, 10, 2)

    assert torch.equal(codes.noise, z[:, :62])
    shares = torch.bincount(codes.category, minlength=10) / len(z)
    assert torch.allclose(shares, torch.full((10,), 0.1), atol=0.006)
    assert codes.continuous.abs().max() <= 1
    assert float(codes.continuous.var()) == pytest.approx(1 / 3, rel=0.02)


def test_the_farthest_noise_still_has_a_category() -> None:
    z = torch.full((1, 4), 40.0)

    assert codes_of(z, 10, 2).category.tolist() == [9]
    assert codes_of(-z, 10, 2).category.tolist() == [0]


def test_infogans_bound_is_the_log_likelihood_of_the_codes() -> None:
    module = tiny_module("infogan", "model.category_weight=1", "model.continuous_weight=1").double()
    module.q.eval()
    z, features = torch.randn(6, 65, dtype=torch.float64), torch.randn(6, 16, dtype=torch.float64)
    codes = codes_of(z, 10, 2)
    module.q.head.float()
    with torch.no_grad():
        terms = module.information(features, z)
        category, mean, log_std = module.q(features)

    named = torch.distributions.Categorical(logits=category).log_prob(codes.category)
    placed = torch.distributions.Normal(mean, log_std.exp()).log_prob(codes.continuous.to(mean))
    assert float(terms["category"]) == pytest.approx(-float(named.mean()), rel=1e-5)
    assert float(terms["continuous"]) == pytest.approx(-float(placed.sum(1).mean()), rel=1e-5)


def test_q_moves_with_the_generator_and_the_trunk_with_the_discriminator() -> None:
    module = tiny_module("infogan")
    d, g = (
        {id(p) for group in o.param_groups for p in group["params"]} for o in module.configure_optimizers()
    )

    assert {id(p) for p in module.q.parameters()} <= g
    assert {id(p) for p in module.discriminator.trunk.parameters()} <= d


def test_infogan_says_which_sizes_it_can_make() -> None:
    with pytest.raises(UserError, match=r"30x7.*multiples of 4"):
        InfoGAN(image_shape=(1, 30, 7))
