"""srgan, esrgan, realesrgan: published counts, the order of pixels, reach by gradient, two stages, blends of weights."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from lit_gan.blur import sharpened
from lit_gan.errors import UserError
from lit_gan.losses import relativistic_average_discriminator, relativistic_average_generator
from lit_gan.networks.rrdb import RRDB, DenseBlock, RRDBNet
from lit_gan.players import frozen, total
from lit_gan.sampling import inference
from lit_gan.super_resolution import Rate, SuperResolver
from lit_gan.variants.esrgan import ESRGAN
from lit_gan.variants.realesrgan import RealESRGAN
from lit_gan.variants.srgan import SRGAN, SRResNet

TINY: dict[type[SuperResolver], dict[str, Any]] = {
    SRGAN: {"width": 4, "blocks": 1, "d_width": 4, "d_units": 8},
    ESRGAN: {"width": 4, "blocks": 1, "growth": 4, "d_width": 4, "d_units": 8},
    RealESRGAN: {"width": 4, "blocks": 1, "growth": 4, "d_width": 4},
}
kinds = pytest.mark.parametrize("kind", TINY, ids=lambda kind: kind.__name__)


def tiny(
    kind: type[SuperResolver], channels: int = 3, source_channels: int = 3, scale: int = 4, **more: Any
) -> SuperResolver:
    torch.manual_seed(0)
    given = {"pretrain_images": 0, "vgg": "none", **TINY[kind], **more}
    shapes = {"image_shape": (channels, 32, 48), "source_shape": (source_channels, 32 // scale, 48 // scale)}
    return kind(**shapes, **given)


def batch_of(module: SuperResolver, size: int = 2) -> dict[str, Tensor]:
    given = dict(module.hparams)
    random = torch.Generator().manual_seed(1)
    return {
        key: torch.rand(size, *given[f"{key}_shape"], generator=random) * 2 - 1 for key in ("source", "image")
    }


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("kind", "settings", "g", "d"),
    [
        (SRGAN, {}, 1_549_462, 23_565_505),
        (ESRGAN, {}, 16_697_987, 14_499_401),
        (ESRGAN, {"blocks": 16}, 11_662_019, 14_499_401),
        (ESRGAN, {"blocks": 6}, 4_467_779, 14_499_401),
        (RealESRGAN, {}, 16_697_987, 4_376_897),
        (RealESRGAN, {"source_shape": (3, 128, 128)}, 16_703_171, 4_376_897),
    ],
)
def test_parameter_counts_are_those_of_the_papers(kind, settings, g, d):
    with torch.device("meta"):
        module = kind(vgg="none", optim={"ema_half_life": 0.0}, **settings)

    assert (count(module.generator), count(module.discriminator)) == (g, d)


def test_pixel_shuffle_lays_four_maps_out_row_by_row():
    network = SRResNet(1, 1, 2, width=1, blocks=0).eval()
    up = network.ups[0]
    with torch.no_grad():
        up.weight.zero_()
        up.bias.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        network.to_image.weight.zero_()
        network.to_image.weight[0, 0, 4, 4] = 1
        network.to_image.bias.zero_()

    made = network(torch.zeros(1, 1, 2, 2))

    assert made[0, 0].tolist() == [[1, 2, 1, 2], [3, 4, 3, 4]] * 2


@pytest.mark.parametrize(
    ("network", "scale"),
    [
        *[(lambda s=s: SRResNet(1, 1, s, width=3, blocks=2).eval(), s) for s in (2, 4, 8)],
        *[(lambda s=s: RRDBNet(1, 1, s, width=3, blocks=1, growth=2), s) for s in (1, 2, 4, 8)],
    ],
)
def test_reach_is_the_receptive_radius_by_gradient(network, scale):
    torch.manual_seed(0)
    net = network().double()
    for parameter in net.parameters():  # no path may be dead: positive weights on positive inputs
        nn.init.uniform_(parameter.data, 0.05, 0.1)
    side = 4 * (2 * net.reach // 4 + 3)
    source = torch.rand(1, 1, 4, side, dtype=torch.float64, requires_grad=True)
    made = net(source)
    middle, farthest = side // 2 // 4 * 4, 0
    for column in range(middle * scale, (middle + 4) * scale):  # one period of the grid
        (gradient,) = torch.autograd.grad(made[0, 0, 0, column], source, retain_graph=True)
        seen = gradient.abs().sum((0, 1, 2)).nonzero().flatten()
        here = column // scale
        farthest = max(farthest, here - int(seen.min()), int(seen.max()) - here)

    assert farthest == net.reach


def test_rrdb_starts_near_the_identity_and_adds_a_fifth():
    torch.manual_seed(0)
    block = DenseBlock(8, 4)
    inputs = torch.rand(1, 8, 6, 6)
    known = inputs
    for layer in block.layers[:-1]:
        known = torch.cat([known, F.leaky_relu(F.conv2d(known, layer.weight, layer.bias, padding=1), 0.2)], 1)
    last = block.layers[-1]

    expected = inputs + 0.2 * F.conv2d(known, last.weight, last.bias, padding=1)
    assert torch.allclose(block(inputs), expected, atol=1e-6)
    assert float(last.weight.detach().std()) == pytest.approx(0.1 * math.sqrt(2 / (24 * 9)), rel=0.1)
    rrdb = RRDB(8, 4)
    assert torch.allclose(rrdb(inputs), inputs + 0.2 * rrdb.blocks(inputs))


def test_relativistic_average_is_its_definition():
    real = torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64)
    fake = torch.tensor([-0.5, 0.7, 0.1], dtype=torch.float64)

    def entropy(logits: Tensor, target: float) -> float:
        p = 1 / (1 + torch.exp(-logits))
        return float(-(target * p.log() + (1 - target) * (1 - p).log()).mean())

    d = (entropy(real - fake.mean(), 1) + entropy(fake - real.mean(), 0)) / 2
    g = (entropy(real - fake.mean(), 0) + entropy(fake - real.mean(), 1)) / 2

    assert float(relativistic_average_discriminator(real, fake)) == pytest.approx(d, rel=1e-6)
    assert float(relativistic_average_generator(real, fake)) == pytest.approx(g, rel=1e-6)


@kinds
@pytest.mark.parametrize("relativistic", [False, True])
@pytest.mark.parametrize(("channels", "source_channels"), [(3, 1), (1, 4)])
def test_each_loss_reaches_its_player_alone(kind, relativistic, channels, source_channels):
    more = {"adversarial": "relativistic"} if relativistic else {}
    module = tiny(kind, channels, source_channels, **more)
    batch = batch_of(module)
    players = {"d": (module.discriminator, module.generator), "g": (module.generator, module.discriminator)}

    for player, (mine, other) in players.items():
        module.zero_grad(set_to_none=True)
        with frozen(other.parameters()):
            terms = module.losses(player, batch)
            total(terms).backward()
        assert next(iter(terms)) == "adversarial"
        assert all(term.shape == () and term.isfinite() for term in terms.values())
        assert ("r1" in terms) == (player == "d" and relativistic)
        assert all(p.grad is None for p in other.parameters())
        assert all(p.grad is not None for p in mine.parameters())
    assert module.relative == (relativistic or kind is ESRGAN)
    assert ("top_k" in module.refuses) == module.relative


@kinds
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_generates_any_size_in_range_whatever_the_batch_mates(kind, scale):
    module = tiny(kind, scale=scale)
    source = torch.rand(3, 3, 6, 10) * 2 - 1
    before = torch.get_rng_state()

    with inference(module):
        together = module.generate({"source": source})
        alone = torch.cat([module.generate({"source": one[None]}) for one in source])

    assert together.shape == (3, 3, 6 * scale, 10 * scale)
    assert together.dtype == torch.float32
    assert together.abs().max() <= 1
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.equal(before, torch.get_rng_state())
    assert (module.scale, module.stride) == (scale, 2 if scale == 2 and kind is not SRGAN else 1)


# number type of the images, what of it is -1 and 1, and whether an image can hold anything beyond
@pytest.mark.parametrize(
    ("dtype", "limits", "clips"),
    [
        ("uint8", [0, 255], True),
        ("uint16", [0, 65535], True),
        ("uint16", [0, 4095], False),
        ("float32", [-1000, 3000], False),
    ],
)
@kinds
def test_images_are_cut_only_where_none_can_hold_more(kind, dtype, limits, clips):
    module = tiny(kind)
    batch = batch_of(module)
    module.look_at({"image": {"dtype": dtype, "range": limits}})
    with inference(module):
        for parameter in module.sampler.parameters():
            parameter.mul_(5)
        made, whole = module.generate(batch), module.sampler(batch["source"]).float()

    assert whole.abs().max() > 1.5
    assert torch.equal(made, whole.clamp(-1, 1) if clips else whole)


@kinds
def test_the_first_stage_is_pixels_alone_and_the_discriminator_rests(kind):
    module = tiny(kind, pretrain_images=8)
    module.images_per_step = 4
    batch = batch_of(module)

    turns = []
    for seen in (0, 4, 8, 12):  # at the beginning of a step
        module.images_seen = seen
        learns = module.discriminator_turn()
        module.images_seen = seen + 4
        turns.append((learns, "adversarial" in module.generator_loss(batch)))

    assert turns == [(False, False), (False, False), (True, True), (True, True)]
    module.images_seen = 0
    made, target = module.fakes(batch), batch["image"]
    error = (made - target) / 2
    expected = {
        SRGAN: (2 * error).square().mean(),
        ESRGAN: error.abs().mean(),
        RealESRGAN: (made - sharpened((target + 1) / 2) * 2 + 1).abs().mean() / 2,
    }[kind]
    assert float(module.generator_loss(batch)["pixel"].detach()) == pytest.approx(
        float(expected.detach()), rel=1e-4
    )


class Crops(L.LightningDataModule):
    """Random pairs of the shapes that a module was built for."""

    keys = ("source", "image")

    def __init__(self, module: SuperResolver, size: int) -> None:
        super().__init__()
        batch = batch_of(module, size)
        self.rows = [{key: batch[key][i] for key in batch} for i in range(size)]

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return DataLoader(self.rows, 2)


@kinds
def test_training_moves_the_discriminator_in_the_second_stage_alone(kind):
    def trained(steps: int) -> dict[str, Tensor]:
        module = tiny(kind, pretrain_images=4)
        module.images_per_step = 2
        trainer = L.Trainer(
            accelerator="cpu", max_steps=steps, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(module, datamodule=Crops(module, 8))
        assert module.images_seen == 2 * steps
        return module.state_dict()

    first, second, third = (trained(steps) for steps in (1, 2, 3))

    parameters = [name for name, _ in tiny(kind).named_parameters()]
    for name in parameters:
        if name.startswith("discriminator."):
            assert torch.equal(first[name], second[name]), name
        elif name.startswith("generator."):
            assert not torch.equal(first[name], second[name]), name
            assert not torch.equal(second[name], third[name]), name
    still = [n for n in parameters if torch.equal(second[n], third[n]) and not n.startswith("ema.")]
    assert all(kind is ESRGAN and not third[n].any() for n in still), "a bias of differences alone"
    assert len(still) <= 1


def test_rates_follow_the_stages():
    module = tiny(ESRGAN, pretrain_images=100, pretrain_drop_images=40, drop_images=[10, 30])
    module.images_per_step = 2
    d, g = module.configure_optimizers()

    def rates(images_seen: int) -> tuple[float, float]:
        module.images_seen = images_seen
        module.schedule("d", d)
        module.schedule("g", g)
        return d.param_groups[0]["lr"], g.param_groups[0]["lr"]

    assert [rates(n)[1] for n in (2, 42, 82, 101)] == pytest.approx([2e-4, 1e-4, 5e-5, 5e-5])
    assert [rates(n) for n in (102, 112, 132)] == [pytest.approx((lr, lr)) for lr in (1e-4, 5e-5, 2.5e-5)]
    assert Rate(None, (5,), 0.1).share(5, 1.0) == pytest.approx(0.1)


@kinds
def test_bfloat16_losses_are_near_those_in_float32(kind):
    def loss() -> tuple[float, float]:
        module = tiny(kind)
        batch = batch_of(module)
        return tuple(
            float(total(f(batch)).detach()) for f in (module.discriminator_loss, module.generator_loss)
        )

    exact = loss()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = loss()

    assert rounded == pytest.approx(exact, rel=0.05, abs=0.05)


@kinds
def test_double_backward_is_right_when_compiled(kind):
    found = []
    for compiled in (False, True):
        module = tiny(kind, adversarial="relativistic")
        if compiled:
            module.generator.compile(backend="aot_eager")
            module.discriminator.compile(backend="aot_eager")
        total(module.discriminator_loss(batch_of(module))).backward()
        found.append([p.grad for p in module.discriminator.parameters()])

    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in zip(*found, strict=True))


@kinds
def test_sources_must_be_the_scale_smaller(kind):
    with pytest.raises(UserError, match=r"sources of 8x8 pixels and images of 24x24: .* set data\.scale"):
        kind(image_shape=(3, 24, 24), source_shape=(3, 8, 8), vgg="none", **TINY[kind])
    with pytest.raises(UserError, match="sources of 8x8"):
        kind(image_shape=(3, 32, 16), source_shape=(3, 8, 8), vgg="none", **TINY[kind])


@kinds
def test_what_stands_in_for_vgg_is_said(kind):
    (note,) = tiny(kind).notes

    assert note == "content loss: L1 of pixels and of their gradients (model.vgg=none)"


@kinds
def test_state_goes_into_a_new_module_and_gives_the_same_losses(kind):
    module, other = tiny(kind), tiny(kind)
    for parameter in module.parameters():
        with torch.no_grad():
            parameter.add_(0.01 * torch.randn_like(parameter))
    module.discriminator_loss(batch_of(module))  # moves the buffers
    other.load_state_dict(module.state_dict())
    batch = batch_of(module)

    for f, g in (
        (module.discriminator_loss, other.discriminator_loss),
        (module.generator_loss, other.generator_loss),
    ):
        assert {k: float(v.detach()) for k, v in f(batch).items()} == {
            k: float(v.detach()) for k, v in g(batch).items()
        }


def test_the_unet_judges_every_pixel_under_spectral_norm():
    module = tiny(RealESRGAN)
    verdict = module.discriminator(torch.rand(2, 3, 32, 48))
    odd = module.discriminator(torch.rand(1, 3, 19, 30))

    assert verdict.shape == (2, 1, 32, 48)
    assert odd.shape == (1, 1, 19, 30)
    layer = module.discriminator.downs[0]
    layer.train()
    for _ in range(200):
        weight = layer.spectral(layer.weight)
    assert float(torch.linalg.matrix_norm(weight.detach().flatten(1), 2)) == pytest.approx(1, rel=1e-3)
