"""pix2pix against its paper: the published networks, its noise, and what its losses are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from lit_gan.config import compose
from lit_gan.errors import UserError
from lit_gan.players import total
from lit_gan.regularise import build_regulariser
from lit_gan.sampling import inference
from lit_gan.settings import Regularise
from lit_gan.train import assemble
from lit_gan.variants.pix2pix import ImageNorm, Pix2Pix, UNet
from paired import assert_goes_on_from_its_state, count
from translators import assert_each_loss_reaches_its_player_alone
from translators import unpaired as pairs

GAMES = pytest.mark.parametrize("adversarial", ["non_saturating", "relativistic"])


def tiny(source: int = 3, image: int = 3, size: tuple[int, int] = (32, 32), **keywords: Any) -> Pix2Pix:
    torch.manual_seed(0)
    shapes = {"source_shape": (source, *size), "image_shape": (image, *size)}
    return Pix2Pix(**{"width": 4, "field": 16, **shapes, **keywords})


@pytest.mark.parametrize(
    ("side", "norm", "parameters"),
    [
        (256, "batch", 54_413_955),
        (256, "instance", 54_409_603),
        (128, "batch", 41_828_995),
        (128, "instance", 41_825_667),
    ],
)
def test_has_the_parameters_of_the_published_networks(side, norm, parameters):
    shape = (3, side, side)
    with torch.device("meta"):
        module = Pix2Pix(image_shape=shape, source_shape=shape, norm=norm)

    assert count(module.generator) == parameters
    assert count(module.discriminator) == {"batch": 2_768_705, "instance": 2_767_809}[norm]
    assert module.stride == side


@GAMES
@pytest.mark.parametrize(("source", "image"), [(1, 3), (4, 1), (3, 3), (2, 5)])
@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
def test_losses_reach_their_player_alone_for_any_channels_and_sides(adversarial, source, image, size):
    module = tiny(source, image, size, adversarial=adversarial)
    batch = pairs((source, *size), (image, *size))

    assert module.needs == ("source", "image")
    assert_each_loss_reaches_its_player_alone(module, batch)
    assert module.fakes(batch).shape == batch["image"].shape


def test_losses_are_those_of_the_paper():
    module = tiny(1, 3).eval()  # without dropout: the fakes of both players are the same
    batch = pairs((1, 32, 32), (3, 32, 32))
    fake = module.generator(batch["source"])
    real_logits = module.discriminator(torch.cat([batch["source"], batch["image"]], 1)).double()
    fake_logits = module.discriminator(torch.cat([batch["source"], fake], 1)).double()

    d, g = module.discriminator_loss(batch), module.generator_loss(batch)

    ones, zeros = torch.ones_like(real_logits), torch.zeros_like(real_logits)
    bce = F.binary_cross_entropy_with_logits
    assert d["adversarial"].item() == pytest.approx(
        (bce(real_logits, ones) + bce(fake_logits, zeros)).item() / 2, rel=1e-5
    )
    assert g["adversarial"].item() == pytest.approx(bce(fake_logits, ones).item(), rel=1e-5)
    assert g["l1"].item() == pytest.approx(100 * (fake - batch["image"]).abs().mean().item(), rel=1e-5)


def test_relativistic_game_pairs_patches_and_penalises_each():
    module = tiny(1, 1, adversarial="relativistic", gamma=3.0).eval()
    batch = pairs((1, 32, 32), (1, 32, 32))
    real = torch.cat([batch["source"], batch["image"]], 1)
    fake = torch.cat([batch["source"], module.generator(batch["source"]).detach()], 1)
    logits = [module.discriminator(images) for images in (real, fake)]

    terms = module.discriminator_loss(batch)

    assert terms["adversarial"].item() == pytest.approx(F.softplus(logits[1] - logits[0]).mean().item())
    assert module.generator_loss(batch)["adversarial"].item() == pytest.approx(
        F.softplus(logits[0] - logits[1]).mean().item()
    )
    for name, images in (("r1", real), ("r2", fake)):
        images = images.clone().requires_grad_()
        verdict = module.discriminator(images)
        (slope,) = torch.autograd.grad(verdict.sum(), images)
        by_hand = 3.0 / 2 * slope.square().sum((1, 2, 3)).mean() / verdict[0].numel()
        assert terms[name].item() == pytest.approx(by_hand.item(), rel=1e-4)


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("sample_dropout", [True, False])
def test_samples_do_not_depend_on_their_batch_mates_nor_on_the_random_stream(norm, sample_dropout):
    module = tiny(norm=norm, sample_dropout=sample_dropout)
    batch = {**pairs((3, 64, 32), (3, 64, 32), 3), "z": torch.randn(3, module.latent_dim)}
    before = torch.get_rng_state()

    with inference(module):
        together = module.generate(batch)
        alone = torch.cat([module.generate({k: v[i : i + 1] for k, v in batch.items()}) for i in range(3)])

    assert torch.equal(before, torch.get_rng_state())
    assert together.shape == (3, 3, 64, 32)
    assert together.dtype == torch.float32
    assert together.abs().max() <= 1
    assert torch.allclose(together, alone, atol=1e-5)


def test_another_z_is_another_image_unless_dropout_is_off():
    source = pairs((3, 32, 32), (3, 32, 32), 1)["source"].repeat(2, 1, 1, 1)
    z = torch.tensor([[0.5], [-1.25]])
    noisy, still = tiny(), tiny(sample_dropout=False)

    with inference(noisy), inference(still):
        one, other = noisy.generate({"source": source, "z": z})
        again, _ = noisy.generate({"source": source, "z": z})
        same, same_too = still.generate({"source": source})

    assert torch.equal(one, again)
    assert not torch.allclose(one, other, atol=1e-4)
    assert torch.allclose(same, same_too)
    assert (noisy.latent_dim, still.latent_dim) == (1, 0)


def test_masks_drop_a_share_in_the_first_three_layers_of_the_decoder():
    network = UNet(3, 3, 8, 8, "batch", 0.25)

    masks = network.masks(torch.tensor([[0.1], [0.2]]), 256, 512)

    assert [tuple(mask.shape) for mask in masks] == [(2, 64, 2, 4), (2, 64, 4, 8), (2, 64, 8, 16)]
    values = torch.cat([mask.flatten() for mask in masks])
    assert sorted(values.unique().tolist()) == pytest.approx([0.0, 4 / 3])
    assert (values == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert not torch.equal(masks[0][0], masks[0][1])


def test_dropout_in_training_is_that_of_the_masks():
    network = UNet(1, 1, 4, 3, "instance", 0.5).train()
    source = pairs((1, 16, 16), (1, 16, 16))["source"]
    shapes, dropped = [], F.dropout

    def watched(h: torch.Tensor, p: float, training: bool) -> torch.Tensor:
        shapes.append(tuple(h.shape))
        return dropped(h, p, training)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "dropout", watched)
        network(source)

    assert shapes == [tuple(mask.shape) for mask in network.masks(torch.zeros(2, 1), 16, 16)]


def test_a_skip_is_the_same_before_and_after_the_encoders_activation():
    h = torch.linspace(-2, 2, 9)

    assert torch.equal(F.relu(h), F.relu(F.leaky_relu(h, 0.2)))


def test_batch_norm_is_of_the_batch_in_training_and_of_each_image_in_inference():
    norm, theirs = ImageNorm(3), nn.BatchNorm2d(3)
    for layer in (norm, theirs):
        nn.init.constant_(layer.weight, 1.5)
        nn.init.constant_(layer.bias, 0.25)
    maps = torch.randn(2, 3, 4, 4) * torch.tensor([1.0, 5.0])[:, None, None, None]

    assert torch.allclose(norm(maps), theirs(maps), atol=1e-6)
    one_by_one = torch.cat([theirs(image[None]) for image in maps])  # the paper's test: one image in a batch
    assert torch.allclose(norm.eval()(maps), one_by_one, atol=1e-5)
    assert not norm.state_dict().keys() - {"weight", "bias"}


@GAMES
def test_resume_is_exact(adversarial):
    batches = [pairs((3, 32, 32), (3, 32, 32), seed=seed) for seed in range(3)]

    assert_goes_on_from_its_state(tiny(adversarial=adversarial), batches)


@GAMES
def test_bfloat16_losses_are_near_and_compiled_gradients_are_right(adversarial):
    batch = pairs((3, 32, 32), (3, 32, 32))
    torch.manual_seed(1)
    loss = total(tiny(adversarial=adversarial).discriminator_loss(batch))
    loss.backward()

    with torch.autocast("cpu", torch.bfloat16):
        rounded = total(tiny(adversarial=adversarial).discriminator_loss(batch))
    assert rounded.item() == pytest.approx(loss.item(), rel=0.05)

    eager, compiled = (tiny(adversarial=adversarial, dropout=0.0) for _ in range(2))
    compiled.generator.compile(backend="aot_eager")
    compiled.discriminator.compile(backend="aot_eager")
    for module in (eager, compiled):
        total(module.discriminator_loss(batch)).backward()
    for a, b in zip(eager.discriminator.parameters(), compiled.discriminator.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("arch", ["pix2pix", "pix2pixhd"])
def test_two_domains_are_refused_by_those_that_learn_from_pairs(arch, tmp_path):
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        Image.new("RGB", (32, 32)).save(folder / "0.png")
    domains = [
        "data=unpaired",
        f"data.sources={tmp_path / 'a'}",
        f"data.path={tmp_path / 'b'}",
        "data.crop_size=32",
    ]

    with pytest.raises(UserError, match=r"learns from pairs.*arch=cyclegan"):
        assemble(compose([f"arch={arch}", *domains, "eval.metrics=[]"]))
    assert assemble(compose(["arch=cut", *domains, "eval.metrics=[]"]))[1].translates


def test_stages_follow_from_the_crops_and_what_does_not_fit_is_said():
    assert [tiny(size=size).stride for size in ((32, 32), (64, 96), (12, 20))] == [32, 32, 4]
    assert tiny(stages=2).stride == 4
    with pytest.raises(UserError, match="can be halved 1 times; crop them"):
        tiny(size=(30, 32))
    with pytest.raises(UserError, match=r"model\.stages=6 cannot be"):
        tiny(stages=6)
    with pytest.raises(UserError, match="sources have 16x32 pixels, the images 32x32"):
        tiny(source_shape=(3, 16, 32))
    with pytest.raises(UserError, match=r"pix2pix with model\.field=286 needs images of at least"):
        tiny(field=286)
    with pytest.raises(UserError, match=r"model\.d_norm=batch mixes samples"):
        tiny(adversarial="relativistic", d_norm="batch")
    with pytest.raises(UserError, match=r"model\.dropout=1: "):
        tiny(dropout=1)


def test_what_regularisation_can_do_it_does():
    batch = pairs((3, 32, 32), (3, 32, 32))
    module = tiny()
    chosen = Regularise(lecam=0.3, consistency=10.0)
    module.regularise = build_regulariser(chosen, module, image_shape=(3, 32, 32), images=100)

    assert "consistency" in module.losses("d", batch)
    with pytest.raises(UserError, match="z_diversity is not for Pix2Pix, whose noise is dropout"):
        build_regulariser(Regularise(z_diversity=1.0), module, image_shape=(3, 32, 32), images=100)
    with pytest.raises(UserError, match="top_k is not for Pix2Pix, whose relativistic"):
        build_regulariser(
            Regularise(top_k=0.5), tiny(adversarial="relativistic"), image_shape=(3, 32, 32), images=100
        )
