"""CUT: PatchNCE against a plain loop, and what reaches whom."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lit_gan.errors import UserError
from lit_gan.networks.patch import PatchDiscriminator
from lit_gan.players import total
from lit_gan.sampling import inference
from lit_gan.variants.cut import CUT, patch_nce
from translators import assert_each_loss_reaches_its_player_alone, take_steps, unpaired

SMALL = (3, 16, 16)


def tiny(shape: tuple[int, int, int] = SMALL, **keywords: Any) -> CUT:
    torch.manual_seed(0)
    settings = {"width": 4, "blocks": 2, "field": 16, "features": 32, "places": 16, **keywords}
    return CUT(source_shape=shape, image_shape=shape, **settings)


def test_parameters_are_those_of_the_published_networks():
    with torch.device("meta"):
        module = CUT()

    def count(part: torch.nn.Module) -> int:
        return sum(p.numel() for p in part.parameters())

    assert module.generator.taps == ("input", "down1", "down2", "block1", "block5")
    assert count(module.generator.translator) == 11_378_179
    assert count(module.generator.heads) == 560_384
    assert count(module.discriminator) == 2_764_737


@pytest.mark.parametrize("side", [256, 50])
def test_filters_of_the_discriminator_keep_the_sizes_of_a_patchgan(side):
    images = torch.randn(1, 3, side, side + 4)
    filtered, strided = CUT(width=1, blocks=1).discriminator, PatchDiscriminator(3, 1, 70, "instance")

    assert filtered(images).shape == strided(images).shape
    assert [type(part).__name__ for part in filtered.layers[0]][-1] == "Halve"


def test_weights_begin_as_the_authors_have_them():
    module = tiny(width=32)
    weight = module.generator.translator.blocks[0].first.weight

    assert weight.std().item() == pytest.approx(0.02 * math.sqrt(2 / (2 * 128 * 9)), rel=0.02)
    assert all(not p.any() for n, p in module.named_parameters() if n.endswith("bias"))


def test_patch_nce_of_features_that_are_all_equal_is_the_logarithm_of_their_number():
    features = torch.nn.functional.normalize(torch.ones(2, 32, 8), dim=2)

    assert patch_nce(features, features, 0.07).item() == pytest.approx(math.log(32), rel=1e-5)


def test_patch_nce_of_identical_features_far_apart_tends_to_zero():
    features = torch.eye(16).expand(2, 16, 16)
    losses = [patch_nce(features, features, tau).item() for tau in (1.0, 0.2, 0.07)]

    assert losses == sorted(losses, reverse=True)
    assert losses[-1] == pytest.approx(math.log1p(15 * math.exp(-1 / 0.07)), abs=1e-6)
    assert losses[-1] < 1e-4


def test_patch_nce_is_a_plain_loop_in_float64():
    queries, keys = (torch.nn.functional.normalize(torch.randn(3, 7, 5), dim=2) for _ in range(2))
    losses = []
    for query, key in zip(queries.double(), keys.double(), strict=True):
        for i in range(7):
            similar = [math.exp(float(query[i] @ key[j]) / 0.07) for j in range(7)]
            losses.append(-math.log(similar[i] / sum(similar)))

    assert patch_nce(queries, keys, 0.07).item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_contrast_is_the_mean_over_taps_of_the_same_places_in_both_and_grows_when_they_are_shuffled():
    module = tiny(places=1000)  # all of them: the order does not matter
    source, fake = unpaired(SMALL, SMALL).values()
    player = module.generator

    def by_hand(keys: list[Tensor]) -> float:
        losses = []
        for tap, query, key in zip(player.taps, player(fake, whole=False), keys, strict=True):
            head = player.heads[tap]
            rows = [head(maps.flatten(2).mT) for maps in (query, key)]
            rows = [row / (row.square().sum(2, keepdim=True).sqrt() + 1e-7) for row in rows]
            losses.append(patch_nce(*rows, module.tau).item())
        return sum(losses) / len(losses)

    keys = player(source, whole=False)

    assert module.contrast(fake, keys).item() == pytest.approx(by_hand(keys), rel=1e-4)
    same = module.contrast(fake, player(fake, whole=False)).item()
    moved = module.contrast(fake, [maps.roll(1, 3) for maps in player(fake, whole=False)]).item()
    assert same < moved


def test_gradients_go_to_queries_alone():
    module = tiny()
    fake = torch.randn(2, *SMALL, requires_grad=True)
    keys = [maps.detach().requires_grad_() for maps in module.generator(torch.randn(2, *SMALL), whole=False)]

    module.contrast(fake, keys).backward()

    assert fake.grad.abs().sum() > 0
    assert all(key.grad is None for key in keys)
    assert all(p.grad is not None for p in module.generator.heads.parameters())


def test_a_place_where_all_units_are_off_does_no_harm():
    module = tiny()
    head = module.generator.heads["block1"]
    torch.nn.init.constant_(head[0].bias, -1e3)

    queries = module.generator.project("block1", torch.randn(1, 16, 4, 4), torch.arange(16))
    patch_nce(queries, queries.detach(), 0.07).backward()

    assert not queries.any()
    assert all(p.grad.isfinite().all() for p in head.parameters())


@pytest.mark.parametrize("adversarial", ["least_squares", "relativistic"])
@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("shape", [(1, 16, 16), (4, 12, 20), (3, 16, 28)])
def test_each_loss_reaches_its_player_alone_for_any_channels_and_sides(shape, fast, adversarial):
    settings = {"identity": False, "flip_equivariance": True, "nce_weight": 10.0} if fast else {}
    module = tiny(shape, adversarial=adversarial, **settings, taps=["input", "down2", "block2"])

    assert_each_loss_reaches_its_player_alone(module, unpaired(shape, shape))
    assert ("identity" in module.generator_loss(unpaired(shape, shape))) != fast


def test_weights_of_the_terms_are_the_papers():
    module, batch = tiny(places=1000), unpaired(SMALL, SMALL)
    torch.manual_seed(3)
    terms = module.generator_loss(batch)
    keys = [maps.detach() for maps in module.generator(batch["source"], whole=False)]
    kept = [maps.detach() for maps in module.generator(batch["image"], whole=False)]
    fake, same = module.fakes(batch), module.fakes({"source": batch["image"]})

    assert terms["nce"].item() == pytest.approx(module.contrast(fake, keys).item() / 2, rel=1e-4)
    assert terms["identity"].item() == pytest.approx(module.contrast(same, kept).item() / 2, rel=1e-4)
    d_fake = module.discriminator(fake)
    assert terms["adversarial"].item() == pytest.approx((d_fake - 1).square().mean().item(), rel=1e-4)
    fast = tiny(places=1000, identity=False, nce_weight=10.0)
    assert fast.generator_loss(batch)["nce"].item() == pytest.approx(20 * terms["nce"].item(), rel=1e-4)


def test_mirrored_translations_are_compared_where_the_source_was():
    module = tiny(places=1000, taps=["input"])
    source = unpaired(SMALL, SMALL)["source"]
    mirrored = torch.tensor([True, False]).view(2, 1, 1, 1)
    translated = torch.where(mirrored, source.flip(3), source)  # as a perfect copier would

    right = module.contrast(translated, [source], mirrored).item()

    assert right == pytest.approx(module.contrast(source, [source]).item(), rel=1e-4)
    assert right < module.contrast(translated, [source]).item()


def test_generate_is_alone_what_it_is_in_a_batch_without_the_global_stream():
    module = tiny(optim={"ema_half_life": 10.0})
    batch = unpaired((3, 16, 24), (3, 16, 24), size=3)
    before = torch.get_rng_state()

    with inference(module):
        images = module.generate(batch)
        alone = torch.cat([module.generate({"source": source[None]}) for source in batch["source"]])

    assert images.shape == (3, 3, 16, 24)
    assert images.dtype == torch.float32
    assert images.abs().max() <= 1
    assert torch.allclose(images, alone, atol=1e-5)
    assert torch.equal(before, torch.get_rng_state())


def test_what_cannot_be_is_named():
    with pytest.raises(UserError, match="sources have 1 channels, images 3"):
        CUT(source_shape=(1, 32, 32), image_shape=(3, 32, 32))
    with pytest.raises(UserError, match="name different ones of input, down1, down2, block1, block2"):
        tiny(taps=["input", "block5"])
    with pytest.raises(UserError, match=r"cut with model\.field=70 needs"):
        tiny(field=70)


def test_compiled_players_have_the_same_gradients():
    batch = unpaired(SMALL, SMALL)
    gradients = []
    for compiled in (False, True):
        module = tiny(adversarial="relativistic")
        if compiled:
            module.generator.compile(backend="aot_eager")
            module.discriminator.compile(backend="aot_eager")
        torch.manual_seed(1)
        total(module.discriminator_loss(batch)).backward()
        total(module.generator_loss(batch)).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in module.parameters()]))

    eager, compiled = gradients
    assert (eager - compiled).norm() < 1e-3 * eager.norm()


def test_bfloat16_losses_are_near_those_in_float32():
    def losses() -> list[float]:
        module, batch = tiny(), unpaired(SMALL, SMALL)
        torch.manual_seed(1)
        return [
            term.item()
            for step in (module.discriminator_loss, module.generator_loss)
            for term in step(batch).values()
        ]

    exact = losses()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = losses()

    assert rounded == pytest.approx(exact, rel=0.05, abs=0.02)


def test_the_same_seed_gives_the_same_training():
    batches = [unpaired(SMALL, SMALL, seed=i) for i in range(2)]

    assert take_steps(tiny(), batches) == take_steps(tiny(), batches)
