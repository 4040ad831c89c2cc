"""AdaIN: statistics in float64, the losses recomputed plainly, who learns, and styles by number and by file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import lit_gan
from lit_gan.cli import main
from lit_gan.data.files import read_image
from lit_gan.errors import UserError
from lit_gan.metrics.weights import read_tensors
from lit_gan.sampling import inference, sampling_batch
from lit_gan.variants.adain import LAYERS, AdaIN, adain, moments, style_loss
from tiny import pictures, random_vgg, state, tiny_module, tiny_run
from translators import assert_each_loss_reaches_its_player_alone, unpaired

SMALL = (3, 16, 16)


def tiny(
    shape: tuple[int, int, int] = SMALL, source: tuple[int, int, int] | None = None, **keywords: Any
) -> AdaIN:
    torch.manual_seed(0)
    settings = {"d_width": 4, "field": 16, "vgg": str(random_vgg()), **keywords}
    module = AdaIN(source_shape=source or shape, image_shape=shape, **settings)
    for layer in module.generator.modules():  # as PyTorch begins it, an image hardly tells what it is of
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    module.finish()
    return module


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A run without the discriminator, long enough to tell styles apart by 8 bits, with a grid."""
    learning = ["run.images=160", "optim.lr=5e-4", "optim.ema_half_life=0", "model.adversarial_weight=0"]
    return tiny_run("adain", tmp_path_factory.mktemp("adain"), *learning, "samples.rows=1")


def by_hand(images: Tensor) -> dict[str, Tensor]:
    """VGG-19's features of colours in [-1, 1], one convolution after the other."""
    weights = {name.removeprefix("features."): value for name, value in read_tensors(random_vgg()).items()}
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    h = ((images + 1) / 2 - mean[:, None, None]) / std[:, None, None]
    found = {}
    places = iter(sorted({int(name.partition(".")[0]) for name in weights}))
    for block, convolutions in enumerate((2, 2, 4, 1), 1):
        h = F.max_pool2d(h, 2) if block > 1 else h
        for number in range(1, convolutions + 1):
            place = next(places)
            h = F.pad(h, (1, 1, 1, 1), mode="reflect")
            h = F.conv2d(h, weights[f"{place}.weight"], weights[f"{place}.bias"]).relu()
            found[f"relu{block}_{number}"] = h
    return {name: found[name] for name in LAYERS}


def test_parameters_are_those_of_the_published_decoder():
    with torch.device("meta"):
        module = AdaIN()

    assert sum(p.numel() for p in module.generator.parameters()) == 3_505_219
    assert sum(p.numel() for p in module.discriminator.parameters()) == 2_764_737
    weights = read_tensors(random_vgg())
    assert sum(value.numel() for value in weights.values()) == 3_505_728


def test_maps_take_on_the_mean_and_the_deviation_of_the_style():
    generator = torch.Generator().manual_seed(1)
    content = 3 * torch.randn(2, 5, 4, 6, generator=generator, dtype=torch.float64) + 7
    style = 20 * torch.randn(2, 5, 3, 7, generator=generator, dtype=torch.float64) - 2

    made = adain(content, style)

    for sample in range(2):
        for maps in range(5):
            c, s, m = (batch[sample, maps].numpy() for batch in (content, style, made))
            expected = (c - c.mean()) / np.sqrt(c.var() + 1e-5) * np.sqrt(s.var() + 1e-5) + s.mean()
            assert np.allclose(m, expected, rtol=1e-12)
            assert m.mean() == pytest.approx(s.mean(), rel=1e-10)
            assert m.std() == pytest.approx(s.std(), rel=1e-5)


def test_maps_that_are_constant_take_on_the_mean_and_stay_finite():
    content = torch.full((1, 2, 2, 2), 3.0, requires_grad=True)

    made = adain(content, torch.randn(1, 2, 4, 4))
    made.sum().backward()

    assert made.var(dim=(2, 3)).max() < 1e-10
    assert content.grad.isfinite().all()


def test_encoder_is_vgg19_padded_by_reflection():
    module = tiny()
    images = unpaired(SMALL, (3, 24, 16))["image"]

    found = module.encoded(images)

    assert list(found) == list(LAYERS)
    for name, maps in by_hand(images).items():
        assert torch.allclose(found[name], maps, atol=1e-4), name


def test_losses_are_the_papers():
    module, batch = tiny(content_weight=0.5, style_weight=3.0), unpaired(SMALL, SMALL)
    terms = module.generator_loss(batch)

    source, style = by_hand(batch["source"]), by_hand(batch["image"])
    target = adain(source["relu4_1"], style["relu4_1"])
    made = by_hand(module.generator(target))
    content = (made["relu4_1"] - target).square().mean()
    differences = []
    for name in LAYERS:
        (a, b), (c, d) = (
            (maps.flatten(2).mean(2), (maps.flatten(2).var(2, correction=0) + 1e-5).sqrt())
            for maps in (made[name], style[name])
        )
        differences += [(a - c).square().mean(), (b - d).square().mean()]

    assert list(terms) == ["content", "style"]
    assert terms["content"].item() == pytest.approx(0.5 * content.item(), rel=1e-3)
    assert terms["style"].item() == pytest.approx(3 * sum(differences).item(), rel=1e-3)


def test_style_loss_is_zero_of_equal_statistics_wherever_they_lie():
    maps = {name: torch.randn(2, 3, 4, 4) for name in LAYERS}
    moved = {name: value.roll((1, 2), (2, 3)) for name, value in maps.items()}

    assert style_loss(moved, maps).item() == pytest.approx(0, abs=1e-10)
    assert style_loss({name: value + 2 for name, value in maps.items()}, maps).item() == pytest.approx(4 * 4)


def test_decoder_alone_learns():
    module, batch = tiny(), unpaired(SMALL, SMALL)

    sum(module.generator_loss(batch).values()).backward()

    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.generator.parameters())
    assert all(p.grad is None for p in module.discriminator.parameters())
    assert all(p.grad is None and not p.requires_grad for p in module.encoder.network.parameters())
    assert not [name for name in module.state_dict() if "encoder" in name]


@pytest.mark.parametrize("adversarial", ["least_squares", "relativistic"])
@pytest.mark.parametrize(
    ("source", "image"), [(SMALL, SMALL), ((1, 20, 28), (3, 20, 28)), ((4, 16, 24), (1, 16, 24))]
)
def test_each_loss_reaches_its_player_alone_for_any_channels_and_sides(source, image, adversarial):
    module = tiny(image, source, adversarial_weight=0.5, adversarial=adversarial)

    assert_each_loss_reaches_its_player_alone(module, unpaired(source, image))
    assert module.discriminator_turn()
    assert module.fakes(unpaired(source, image)).shape == (2, *image)


def test_adversarial_term_has_its_weight_and_the_discriminator_rests_without():
    batch = unpaired(SMALL, SMALL)
    module = tiny(adversarial_weight=0.25)
    term = module.generator_loss(batch)["adversarial"]

    expected = (module.discriminator(module.fakes(batch)) - 1).square().mean()
    assert term.item() == pytest.approx(0.25 * expected.item(), rel=1e-4)
    assert not tiny().discriminator_turn()


def test_alpha_goes_from_the_decoded_content_to_the_style():
    batch = unpaired(SMALL, SMALL)
    batch["style"] = batch["image"].flip(2) * 0.5
    made = {}
    for alpha in (0.0, 0.25, 1.0):
        module = tiny(alpha=alpha)
        with inference(module):
            made[alpha] = module.generate(batch)
    with inference(module):
        content = module.encoded(batch["source"])["relu4_1"]
        target = adain(content, module.encoded(batch["style"])["relu4_1"])
        decoded = {a: module.generator(a * target + (1 - a) * content).clamp(-1, 1) for a in made}

    for alpha, images in made.items():
        assert torch.allclose(images, decoded[alpha], atol=1e-5)
    assert not torch.allclose(made[0.0], made[1.0], atol=1e-3)


def test_generate_takes_styles_of_other_sizes_and_is_alone_what_it_is_in_a_batch():
    module = tiny(optim={"ema_half_life": 10.0})
    batch = {
        "source": unpaired((3, 20, 9), SMALL, size=3)["source"],
        "style": unpaired(SMALL, (3, 33, 50), size=3)["image"],
    }

    with inference(module):
        images = module.generate(batch)
        alone = [module.generate({key: value[i : i + 1] for key, value in batch.items()}) for i in range(3)]

    assert images.shape == (3, 3, 20, 9)
    assert images.dtype == torch.float32
    assert images.abs().max() <= 1
    assert torch.allclose(images, torch.cat(alone), atol=1e-4)


def test_images_are_cut_only_where_none_can_hold_more():
    module = tiny()
    batch = unpaired(SMALL, SMALL)
    batch["style"] = batch["image"]
    torch.nn.init.constant_(module.sampler[-1].bias, 3.0)  # of the last convolution

    made = {}
    for dtype, limits in (("uint8", [0, 255]), ("float32", [0, 1])):
        module.look_at({"image": {"dtype": dtype, "range": limits}})
        with inference(module):
            made[dtype] = module.generate(batch)

    assert made["float32"].max() > 1.5
    assert torch.equal(made["uint8"], made["float32"].clamp(-1, 1))


def test_style_is_encoded_once_for_all_tiles_and_anew_where_it_changed(monkeypatch):
    module, style = tiny(), unpaired(SMALL, SMALL, size=1)["image"]
    source = unpaired((3, 48, 32), SMALL, size=1)["source"]
    encoded: list[tuple[int, ...]] = []
    encode = module.encoded
    monkeypatch.setattr(module, "encoded", lambda images: (encoded.append(images.shape), encode(images))[1])

    with inference(module):
        top, _ = (module.generate({"source": part, "style": style}) for part in source.split(24, dim=2))
        assert len(encoded) == 3, "two tiles and a style"
        style.neg_()
        other = module.generate({"source": source[:, :, :24], "style": style})

    assert len(encoded) == 5
    assert not torch.allclose(top, other, atol=1e-3)


def test_numbered_fakes_have_numbered_styles():
    module = tiny_module("adain")

    batch = sampling_batch(module, 0, [3, 5])

    assert torch.equal(batch["style"], module.sources.images_at([3, 5]))
    assert not torch.equal(batch["style"], batch["source"])


def test_rate_falls_with_the_images_seen():
    module = tiny()
    _, optimizer = module.configure_optimizers()
    rates = []
    for module.images_seen in (0, 160_000, 1_280_000):  # 0, 20,000 and 160,000 steps of 8
        module.schedule("g", optimizer)
        rates.append(optimizer.param_groups[0]["lr"])

    assert rates == pytest.approx([1e-4, 1e-4 / 2, 1e-4 / 9])


def test_what_cannot_be_is_named(tmp_path, monkeypatch):
    def refused(wanted: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr("lit_gan.metrics.weights.download", refused)
    monkeypatch.setenv("LIT_GAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    for weights in ("auto", "none"):
        with pytest.raises(UserError, match=r"lit-gan weights fetch vgg19, or model\.vgg=PATH"):
            tiny(vgg=weights).check_needs(("source", "image"))
    with pytest.raises(UserError, match="the sources have 2: convert them"):
        tiny(source=(2, 16, 16))
    with pytest.raises(UserError, match="sources have 16x24 pixels, the images 16x16"):
        tiny(source=(3, 16, 24))
    with pytest.raises(UserError, match=r"model\.alpha=1\.5 is no share"):
        tiny(alpha=1.5)
    with pytest.raises(UserError, match=r"adain with model\.field=70 needs"):
        tiny(field=70, adversarial_weight=1)


def test_run_without_adversarial_weight_moves_the_decoder_alone_and_shows_styles(run):
    before, after = tiny_module("adain").discriminator.state_dict(), state(run)["state_dict"]
    first = tiny_module("adain").generator.state_dict()

    assert all(torch.equal(before[name], after[f"discriminator.{name}"]) for name in before)
    assert not any(torch.equal(first[name], after[f"generator.{name}"]) for name in first)
    with Image.open(sorted((run / "samples").glob("kimg*.png"))[-1]) as sheet:
        assert (sheet.size[0] - 2) % (3 * 26 + 2) == 0, "content, result and style, 24 pixels wide each"


def test_translate_takes_the_style_of_a_file(run, tmp_path):
    first, second = sorted((pictures() / "b").iterdir())[:2]
    content = tmp_path / "in"
    content.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (21, 34, 3), dtype=np.uint8)).save(
        content / "photo.png"
    )

    def painted(name: str, *more: str) -> np.ndarray:
        assert main(["translate", str(run), str(content), str(tmp_path / name), *more]) == 0
        return read_image(tmp_path / name / "photo.png").pixels

    one, other = painted("one", "--style", str(first)), painted("other", "--style", str(second))
    none = painted("none", "--style", str(first), "model.alpha=0")

    assert one.shape[:2] == (21, 34)
    assert not np.array_equal(one, other)
    assert np.array_equal(none, painted("again", "--style", str(second), "model.alpha=0"))
    assert not np.array_equal(none, one)
    sampler, image = lit_gan.load(run), read_image(content / "photo.png").pixels
    assert np.abs(sampler.translate(image, style=str(first)).astype(int) - one).max() <= 1
    pixels = np.asarray(Image.open(first))
    tensor = torch.from_numpy(pixels / 127.5 - 1).float()[None]
    for style in (pixels, Image.fromarray(pixels), tensor):
        assert np.array_equal(sampler.translate(image, style=style), sampler.translate(image, style=first))


def test_style_is_asked_for_where_it_is_needed_and_refused_where_it_is_not(run, tmp_path, cache, capsys):
    photo = str(next((pictures() / "a").iterdir()))

    assert main(["translate", str(run), photo, str(tmp_path)]) == 2
    assert "give one, --style FILE" in capsys.readouterr().err
    assert main(["translate", str(run), photo, str(tmp_path), "--style", "nowhere.png"]) == 2
    assert "the style image cannot be used: " in capsys.readouterr().err
    other = tiny_run("pix2pix", tmp_path, "run.images=8")
    assert main(["translate", str(other), photo, str(tmp_path), "--style", photo]) == 2
    assert "Pix2Pix takes on no image's style" in capsys.readouterr().err


def test_moments_are_of_each_map_by_itself():
    maps = torch.arange(16.0).reshape(2, 2, 2, 2)

    mean, deviation = moments(maps)

    assert mean.flatten().tolist() == [1.5, 5.5, 9.5, 13.5]
    assert deviation.flatten().tolist() == pytest.approx([(1.25 + 1e-5) ** 0.5] * 4)
