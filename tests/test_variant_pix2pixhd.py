"""pix2pixHD against its paper: the published networks, its stages, label maps, and what its losses are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lit_gan.config import compose
from lit_gan.data.files import Picture, write_image
from lit_gan.errors import UserError
from lit_gan.players import frozen, total
from lit_gan.regularise import build_regulariser
from lit_gan.sampling import inference
from lit_gan.settings import Regularise
from lit_gan.train import assemble
from lit_gan.variants.pix2pixhd import Pix2PixHD
from paired import assert_goes_on_from_its_state, count
from translators import assert_each_loss_reaches_its_player_alone
from translators import unpaired as pairs

GAMES = pytest.mark.parametrize("adversarial", ["least_squares", "relativistic"])
TINY: dict[str, Any] = {"width": 4, "d_width": 4, "downs": 2, "blocks": 1, "field": 16, "vgg": "none"}


def tiny(source: int = 3, image: int = 3, size: tuple[int, int] = (32, 32), **keywords: Any) -> Pix2PixHD:
    torch.manual_seed(0)
    shapes = {"source_shape": (source, *size), "image_shape": (image, *size)}
    return Pix2PixHD(**{**TINY, **shapes, **keywords})


@pytest.mark.parametrize(
    ("channels", "keywords", "g", "d"),
    [
        (3, {}, 182_443_267, 5_535_618),
        (36, {}, 182_546_755, 5_603_202),
        (3, {"scales": 3, "enhancer": True}, 182_701_827, 8_303_427),
        (36, {"scales": 3, "enhancer": True}, 182_857_059, 8_404_803),
        (3, {"downs": 3}, 45_593_347, 5_535_618),
    ],
)
def test_has_the_parameters_of_the_published_networks(channels, keywords, g, d):
    with torch.device("meta"):
        module = Pix2PixHD(source_shape=(channels, 512, 1024), **keywords)
        of_labels = Pix2PixHD(source_shape=(1, 512, 1024), labels=channels, **keywords)

    assert count(module.generator) == count(of_labels.generator) == g
    assert count(module.discriminator) == count(of_labels.discriminator) == d


@GAMES
@pytest.mark.parametrize("enhancer", [False, True])
@pytest.mark.parametrize(("source", "image", "size"), [(1, 3, (32, 32)), (4, 1, (24, 40)), (2, 5, (32, 16))])
def test_losses_reach_their_player_alone_for_any_channels_and_sides(
    adversarial, enhancer, source, image, size
):
    module = tiny(source, image, size, adversarial=adversarial, enhancer=enhancer)
    batch = pairs((source, *size), (image, *size))

    assert module.stride == (8 if enhancer else 4)
    assert_each_loss_reaches_its_player_alone(module, batch)
    assert module.fakes(batch).shape == batch["image"].shape


def test_losses_are_those_of_the_paper():
    module = tiny(1, 3, field=70, size=(64, 64), scales=3)
    batch = pairs((1, 64, 64), (3, 64, 64))
    fake = module.fakes(batch)
    expected_d = expected_g = expected_match = torch.zeros(())
    real_pair, fake_pair = (torch.cat([batch["source"], images], 1) for images in (batch["image"], fake))
    for scale, network in enumerate(module.discriminator.scales):
        if scale:
            real_pair, fake_pair = (
                F.avg_pool2d(images, 3, 2, 1, count_include_pad=False) for images in (real_pair, fake_pair)
            )
        real_features, fake_features = network.features(real_pair), network.features(fake_pair)
        real_logits, fake_logits = real_features[-1], fake_features[-1]
        expected_d = expected_d + ((real_logits - 1).square().mean() + fake_logits.square().mean()) / 2
        expected_g = expected_g + (fake_logits - 1).square().mean()
        for a, b in zip(real_features[:-1], fake_features[:-1], strict=True):
            expected_match = expected_match + (a - b).abs().mean() / 3

    d, g = module.discriminator_loss(batch), module.generator_loss(batch)

    assert d["adversarial"].item() == pytest.approx(expected_d.item(), rel=1e-5)
    assert g["adversarial"].item() == pytest.approx(expected_g.item(), rel=1e-5)
    assert g["match"].item() == pytest.approx(10 * expected_match.item(), rel=1e-5)


def test_without_vgg_pixels_and_gradients_are_compared_and_it_is_said():
    module = tiny()
    batch = pairs((3, 32, 32), (3, 32, 32))
    error = module.fakes(batch) - batch["image"]

    term = module.generator_loss(batch)["perceptual"]

    edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    assert term.item() == pytest.approx(10 * (error.abs().mean() + edges).item(), rel=1e-5)
    assert module.perceptual.about == "L1 of pixels and of their gradients (model.vgg=none)"
    assert not [name for name in module.state_dict() if "perceptual" in name]


def test_each_scale_has_relativistic_penalties_of_its_own():
    module = tiny(1, 1, adversarial="relativistic", gamma=3.0)
    batch = pairs((1, 32, 32), (1, 32, 32))
    pair = {
        "r1": torch.cat([batch["source"], batch["image"]], 1),
        "r2": torch.cat([batch["source"], module.fakes(batch).detach()], 1),
    }

    terms = module.discriminator_loss(batch)

    for name, images in pair.items():
        images.requires_grad_()
        by_hand = torch.zeros(())
        for features in module.discriminator(images):
            (slope,) = torch.autograd.grad(features[-1].sum(), images)
            by_hand = by_hand + 3.0 / 2 * slope.square().sum((1, 2, 3)).mean() / features[-1][0].numel()
        assert terms[name].item() == pytest.approx(by_hand.item(), rel=1e-4)


def test_label_maps_become_one_hot_and_other_values_belong_to_no_class():
    module = tiny(1, 3, labels=4)
    levels = torch.tensor([0, 1, 3, 255, 4, 2] * 4).reshape(1, 1, 4, 6)

    maps = module.known({"source": levels.float() / 127.5 - 1})

    assert maps.shape == (1, 4, 4, 6)
    for index in range(4):
        assert torch.equal(maps[:, index], (levels[:, 0] == index).float())
    assert maps.sum(1).flatten()[:6].tolist() == [1, 1, 1, 0, 0, 1]
    assert_each_loss_reaches_its_player_alone(module, pairs((1, 32, 32), (3, 32, 32)))


def test_enhancer_learns_alone_at_first():
    module = tiny(enhancer=True, fix_global_images=10)
    batch = pairs((3, 32, 32), (3, 32, 32))
    coarse = [p for n, p in module.generator.named_parameters() if n.startswith("coarse.")]
    rest = [p for n, p in module.generator.named_parameters() if not n.startswith("coarse.")]

    for images_seen, learns in ((9, False), (10, True)):
        module.images_seen = images_seen
        module.zero_grad(set_to_none=True)
        with frozen(module.discriminator.parameters()):
            total(module.generator_loss(batch)).backward()
        assert all((p.grad is not None) == learns for p in coarse)
        assert all(p.grad is not None for p in rest)


def test_enhancer_begins_with_the_global_generator_by_name_and_shape():
    alone, around = tiny(), tiny(enhancer=True)

    names = {n: p.shape for n, p in around.generator.named_parameters() if n.startswith("coarse.")}

    assert names
    assert names == {n: p.shape for n, p in alone.generator.named_parameters() if n.startswith("coarse.")}


@pytest.mark.parametrize("enhancer", [False, True])
def test_samples_do_not_depend_on_their_batch_mates_nor_on_the_random_stream(enhancer):
    module = tiny(enhancer=enhancer)
    batch = pairs((3, 40, 32), (3, 40, 32), 3)
    before = torch.get_rng_state()

    with inference(module):
        together = module.generate(batch)
        alone = torch.cat([module.generate({"source": source[None]}) for source in batch["source"]])

    assert torch.equal(before, torch.get_rng_state())
    assert together.shape == (3, 3, 40, 32)
    assert together.dtype == torch.float32
    assert together.abs().max() <= 1
    assert torch.allclose(together, alone, atol=1e-5)


@GAMES
def test_resume_is_exact(adversarial):
    batches = [pairs((3, 32, 32), (3, 32, 32), seed=seed) for seed in range(3)]

    assert_goes_on_from_its_state(tiny(adversarial=adversarial, enhancer=True, fix_global_images=3), batches)


@GAMES
def test_bfloat16_losses_are_near_and_compiled_gradients_are_right(adversarial):
    batch = pairs((3, 32, 32), (3, 32, 32))
    eager, compiled = (tiny(adversarial=adversarial) for _ in range(2))
    compiled.generator.compile(backend="aot_eager")
    compiled.discriminator.compile(backend="aot_eager")
    for module in (eager, compiled):
        loss = total(module.discriminator_loss(batch))
        loss.backward()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = total(tiny(adversarial=adversarial).discriminator_loss(batch))

    assert rounded.item() == pytest.approx(loss.item(), rel=0.05)
    for a, b in zip(eager.discriminator.parameters(), compiled.discriminator.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-3, atol=1e-5)


def test_no_layer_of_the_discriminator_mixes_samples():
    module = tiny()
    images = torch.cat([pairs((3, 32, 32), (3, 32, 32), 3)["image"]] * 2, 1)

    alone = torch.cat([module.logits(image[None]) for image in images])

    assert torch.allclose(module.logits(images), alone, atol=1e-5)


def test_class_indices_that_bicubic_would_mix_stop_the_run(tmp_path):
    sources, images = tmp_path / "sources", tmp_path / "images"
    for folder, channels in ((sources, 1), (images, 3)):
        folder.mkdir()
        write_image(folder / "0.png", Picture(np.full((32, 32, channels), 2, np.uint8)))
    settings = [
        "arch=pix2pixhd", "data=paired", f"data.sources={sources}", f"data.path={images}", "data.load_size=16",
        "model.labels=3", "model.scales=2", "eval.metrics=[]",
    ]  # fmt: skip

    with pytest.raises(UserError, match=r"set data\.nearest_sources=true"):
        assemble(compose(settings))
    assert assemble(compose([*settings, "data.nearest_sources=true"]))[1].reads_indices


def test_what_does_not_fit_is_said():
    with pytest.raises(UserError, match="both sides must be multiples of 4 and at least 8"):
        tiny(size=(30, 32))
    with pytest.raises(UserError, match="sources have 16x32 pixels, the images 32x32"):
        tiny(source_shape=(3, 16, 32))
    with pytest.raises(UserError, match=r"model\.labels=4: class indices are a source of 1 channel"):
        tiny(labels=4)
    with pytest.raises(UserError, match="leaves nothing to train without the enhancer"):
        tiny(fix_global_images=5)
    with pytest.raises(UserError, match=r"model\.scales=6 leaves one pixel of images of 32x64"):
        tiny(size=(32, 64), scales=6)
    assert tiny(size=(32, 64), scales=5).discriminator_loss(pairs((3, 32, 64), (3, 32, 64), 1))
    with pytest.raises(UserError, match="z_consistency is not for Pix2PixHD, which has no noise"):
        build_regulariser(Regularise(z_consistency=1.0), tiny(), image_shape=(3, 32, 32), images=100)
