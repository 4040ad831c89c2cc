"""GAT: parameter counts, the noise of its levels, its two penalties, and its layers against plain recomputation."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lit_gan.networks.attention import Attention, Rotary, position_table
from lit_gan.penalties import finite_difference, squared_norm
from lit_gan.variants.gat import GAT, T

PRESETS = {  # width, depth, heads; million parameters of the official G and D
    "S": (384, 12, 6, "29.26", "39.11"),
    "B": (768, 12, 12, "116.56", "104.48"),
    "L": (1024, 24, 16, "408.49", "322.77"),
    "XL": (1152, 28, 16, "601.96", "467.38"),
}


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def tiny(**keywords) -> GAT:
    torch.manual_seed(0)
    settings = {"width": 16, "depth": 4, "heads": 2, "patch": 4, "latent_dim": 8, "label_dim": 8}
    return GAT(image_shape=(1, 16, 16), **{**settings, **keywords})


@pytest.mark.parametrize("name", PRESETS)
def test_parameter_counts_are_those_of_the_official_networks(name: str) -> None:
    width, depth, heads, g, d = PRESETS[name]
    with torch.device("meta"):
        module = GAT(
            conditional=True,
            num_classes=1000,
            width=width,
            depth=depth,
            heads=heads,
            optim={"ema_half_life": 0.0},
        )
    # the official generator has a patch embedding that is multiplied by 0, the discriminator the alignment's projector
    dead = 4 * 2 * 2 * width + width
    projector = (width + 1) * 2048 + (2048 + 1) * 2048 + (2048 + 1) * 768

    assert f"{(count(module.generator) + dead) / 1e6:.2f}" == g
    assert f"{(count(module.discriminator) + projector) / 1e6:.2f}" == d


def test_the_noise_of_a_level_has_its_deviation_and_only_grows_towards_the_first() -> None:
    torch.manual_seed(0)
    noise = torch.stack([n.flatten() for n in GAT.noise([torch.zeros(200_000, dtype=torch.float64)] * 4)])
    covariance = noise @ noise.T / noise.shape[1]

    assert pytest.approx((0.885, 0.76, 0.51, 0.01)) == T
    assert torch.allclose(covariance.diagonal().sqrt(), torch.tensor(T, dtype=torch.float64), rtol=0.01)
    for i in range(3):  # n_i = r n_(i + 1) + independent noise
        r = (1 - T[i]) / (1 - T[i + 1])
        assert float(covariance[i, i + 1]) == pytest.approx(r * T[i + 1] ** 2, abs=0.005)


def test_the_penalty_by_differences_tends_to_the_gradients() -> None:
    module = tiny()
    x = torch.rand(1, 1, 16, 16) * 2 - 1
    noise = GAT.noise([x] * 4)
    inputs = torch.stack([x] * 4, dim=1).requires_grad_()
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        exact = squared_norm(module.verdict(inputs.unbind(1), noise, None), inputs).item()

    draws, sigma = 4000, 1e-2
    levels = [x.expand(draws, -1, -1, -1)] * 4
    moved = [level + sigma * torch.randn_like(level) for level in levels]
    with torch.no_grad():
        slope = finite_difference(
            module.verdict(moved, noise, None), module.verdict(levels, noise, None), sigma
        ).item()

    assert slope == pytest.approx(exact, rel=0.1)  # a mean of 4000 squares of one normal variable: 2 %


@pytest.mark.parametrize("penalty", ["exact", "approx"])
def test_r1_is_the_slope_at_the_real_itself_which_is_all_levels_at_once(penalty: str) -> None:
    module = tiny(penalty=penalty)
    with torch.no_grad():  # a discriminator that tells its levels apart
        module.discriminator.patches.weight.mul_(torch.tensor([3.0, 1.0, -1.0, 0.3]).view(1, 4, 1, 1))
    x = torch.rand(1, 1, 16, 16) * 2 - 1
    noise = GAT.noise([x] * 4)
    inputs = x.clone().requires_grad_()
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        logits = module.logits(torch.cat([(1 - t) * inputs + n for t, n in zip(T, noise, strict=True)], 1))
        (gradient,) = torch.autograd.grad(logits.sum(), inputs)

    draws = 1 if penalty == "exact" else 4000
    many = [n.expand(draws, -1, -1, -1) for n in noise]
    found = module.judged([x.expand(draws, -1, -1, -1)], many, None)[1].item()

    assert found == pytest.approx(gradient.square().sum().item(), rel=1e-4 if penalty == "exact" else 0.1)


def test_both_penalties_train_all_of_the_discriminator() -> None:
    for penalty in ("exact", "approx"):
        module = tiny(penalty=penalty)
        terms = module.discriminator_loss({"image": torch.rand(2, 1, 16, 16)})
        terms["r1"].backward()

        reached = {n for n, p in module.discriminator.named_parameters() if p.grad is not None}
        assert "patches.weight" in reached, penalty
        assert "blocks.3.attention.qkv.weight" in reached, penalty


def test_differences_replay_the_augmentation() -> None:
    module = tiny()
    calls: list[int] = []
    module.shown_alike = lambda *images: calls.append(len(images)) or images
    module.discriminator_loss({"image": torch.rand(2, 1, 16, 16)})

    assert calls == [2, 8]  # a real and the moved one; four levels of a fake and the four moved ones


def test_differences_take_one_pass_of_the_discriminator_in_which_labels_stay_with_their_images() -> None:
    module = tiny(conditional=True, num_classes=3)
    levels = [torch.rand(4, 1, 16, 16) for _ in range(4)]
    noise, label = GAT.noise(levels), torch.tensor([2, 0, 1, 0])
    passes: list[int] = []
    module.discriminator.register_forward_hook(lambda _, inputs, __: passes.append(len(inputs[0])))
    with torch.no_grad():
        logits, slope = module.judged(levels, noise, label)
        alone = module.verdict(levels, noise, label)

    assert passes == [8, 4]
    assert slope > 0
    assert torch.allclose(logits, alone, atol=1e-5)
    assert not torch.allclose(alone, module.verdict(levels, noise, label.roll(1)), atol=1e-4)


def test_the_learning_rate_falls_with_the_width() -> None:
    d, g = tiny(width=96).configure_optimizers()

    assert d.param_groups[0]["lr"] == g.param_groups[0]["lr"] == pytest.approx(2e-4 * 768 / 96)


@pytest.mark.parametrize(("depth", "after"), [(4, [1, 2, 3, 4]), (12, [3, 6, 9, 12]), (6, [1, 3, 4, 6])])
def test_heads_follow_each_quarter_of_the_blocks(depth: int, after: list[int]) -> None:
    assert tiny(depth=depth).generator.heads_after == after


def test_levels_add_up_and_the_last_is_the_image() -> None:
    module = tiny()
    levels = module.generator(torch.randn(2, 8))

    assert len(levels) == 4
    assert all(not torch.equal(a, b) for a, b in pairwise(levels))


def test_patches_lie_where_their_tokens_are() -> None:
    generator = GAT(image_shape=(2, 8, 12), width=16, depth=4, heads=2, patch=4).generator
    images = torch.arange(2 * 8 * 12.0).view(1, 2, 8, 12)
    columns = F.unfold(images, 4, stride=4).view(2, 16, 6)  # [C, p * p, tokens]
    patches = columns.permute(2, 1, 0).reshape(1, 6, 32)

    assert torch.equal(generator._image(patches), images)


def test_attention_equals_its_definition() -> None:
    torch.manual_seed(0)
    rotary = Rotary(2, 3, 8, prefix=1)
    layer = Attention(16, 2, rotary).double()
    nn.init.normal_(layer.q_norm.weight)
    x = torch.randn(2, 7, 16, dtype=torch.float64)

    q, k, v = (part.view(2, 7, 2, 8).transpose(1, 2) for part in layer.qkv(x).chunk(3, dim=-1))

    def normal(heads: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return heads / (heads.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight

    def turned(heads: torch.Tensor) -> torch.Tensor:
        out = heads.clone()
        for token in range(1, 7):
            row, column = divmod(token - 1, 3)
            for pair in range(4):
                place, frequency = (row, pair) if pair < 2 else (column, pair - 2)
                angle = torch.tensor(place * 10_000.0 ** (-frequency / 2), dtype=torch.float64)
                a, b = heads[:, :, token, 2 * pair], heads[:, :, token, 2 * pair + 1]
                out[:, :, token, 2 * pair] = a * angle.cos() - b * angle.sin()
                out[:, :, token, 2 * pair + 1] = a * angle.sin() + b * angle.cos()
        return out

    q, k = turned(normal(q, layer.q_norm.weight)), turned(normal(k, layer.k_norm.weight))
    weights = (q @ k.transpose(-1, -2) / 8**0.5).softmax(-1)
    expected = layer.project((weights @ v).transpose(1, 2).reshape(2, 7, 16))

    assert torch.allclose(layer(x), expected, atol=1e-6)  # the table of angles is in float32


def test_rotary_products_depend_on_the_distance_alone() -> None:
    rotary = Rotary(4, 5, 8)
    q, k = torch.randn(8), torch.randn(8)
    turned_q, turned_k = (rotary(v.expand(1, 1, 20, 8))[0, 0].view(4, 5, 8) for v in (q, k))

    near = (turned_q[0, 0] * turned_k[1, 2]).sum()
    same = (turned_q[2, 1] * turned_k[3, 3]).sum()
    other = (turned_q[2, 1] * turned_k[3, 4]).sum()

    assert float(near) == pytest.approx(float(same), abs=1e-5)
    assert float(near) != pytest.approx(float(other), abs=1e-3)


def test_the_position_table_tells_all_places_apart() -> None:
    table = position_table(5, 7, 16)

    assert len({tuple(row) for row in table.round(decimals=4).tolist()}) == 35


def test_truncation_goes_towards_the_mean_of_the_class() -> None:
    module = tiny(conditional=True, num_classes=3)
    generator = module.generator
    for _ in range(3):
        generator(torch.randn(6, 8), torch.tensor([0, 0, 1, 1, 1, 0]))
    assert generator.c_mean[:2].any(1).all()
    assert not generator.c_mean[2].any()

    generator.eval()
    label = torch.tensor([1, 1])
    with torch.no_grad():
        images = generator(torch.randn(2, 8), label, torch.tensor(0.0))[-1]
    assert torch.allclose(images[0], images[1], atol=1e-6)
