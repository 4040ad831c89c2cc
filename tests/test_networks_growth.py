"""Growing: when, how, that it is smooth, and that neither a kill nor the optimiser nor a compiler trips over it."""

from __future__ import annotations

import copy
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter
from torch.nn import functional as F

from lit_gan.networks.equalized import EqualizedDownConv, EqualizedUpConv
from lit_gan.networks.growth import GrowingDiscriminator, Growth, enlarged, pooled
from lit_gan.networks.minibatch import minibatch_std
from lit_gan.networks.shape import pyramid
from lit_gan.resume import compose_run
from lit_gan.sampling import inference, sampling_batch
from lit_gan.train import train
from tiny import TRAINED, largest_difference, state, tiny_batch, tiny_module, tiny_run

GROWING = ["progan", "stylegan"]
grows = pytest.mark.parametrize("arch", GROWING)


def test_stages_are_stable_and_then_fade_in_by_images_seen() -> None:
    growth = Growth(0, 2, stable=10, fade=20)

    seen = [growth.at(images) for images in (0, 10, 11, 29, 30, 40, 50, 60, 10**9)]

    expected = [(0, 1), (0, 1), (1, 0.05), (1, 0.95), (1, 1), (1, 1), (2, 0.5), (2, 1), (2, 1)]
    assert seen == [(stage, pytest.approx(alpha)) for stage, alpha in expected]


def test_phase_changes_where_a_fade_begins_and_ends_and_nowhere_else() -> None:
    growth = Growth(1, 3, stable=10, fade=20)

    phases = [growth.phase(images) for images in range(100)]

    changes = [i for i in range(1, 100) if phases[i] != phases[i - 1]]
    assert changes == [11, 30, 41, 60]
    assert phases == sorted(phases)


@pytest.mark.parametrize(
    ("stable", "fade", "expected"), [(0, 0, [3, 3, 3]), (10, 0, [0, 1, 3]), (0, 10, [0, 1, 3])]
)
def test_phases_may_be_empty(stable: int, fade: int, expected: list[int]) -> None:
    growth = Growth(0, 3, stable, fade)

    assert [growth.at(images)[0] for images in (0, 10, 40)] == expected


@pytest.mark.parametrize(
    "bad", [{"first": 4}, {"first": -1}, {"stable": -1}, {"fade": -1}, {"lr_factors": [0.0]}]
)
def test_growth_that_makes_no_sense_is_an_error(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"first_stage|_images|lr_factors"):
        Growth(**{"first": 0, "last": 3, "stable": 1, "fade": 1, **bad})


def test_reals_fade_in_with_the_networks() -> None:
    growth, images = Growth(0, 2, 1, 1), torch.randn(2, 3, 8, 12)
    halves = images.reshape(2, 3, 4, 2, 6, 2).mean((3, 5))
    quarters = images.reshape(2, 3, 2, 4, 3, 4).mean((3, 5))

    def repeated(small: Tensor) -> Tensor:
        return small.repeat_interleave(8 // small.shape[2], 2).repeat_interleave(8 // small.shape[2], 3)

    torch.testing.assert_close(growth.shrunk(images, 2, None), images)
    torch.testing.assert_close(growth.shrunk(images, 0, None), repeated(quarters))
    torch.testing.assert_close(
        growth.shrunk(images, 1, torch.tensor(0.25)), 0.75 * repeated(quarters) + 0.25 * repeated(halves)
    )


def test_pooling_undoes_enlarging() -> None:
    images = torch.randn(2, 1, 3, 5)

    torch.testing.assert_close(pooled(enlarged(images, 3), 3), images)


# -- the networks -------------------------------------------------------------------------------------------


def grown(arch: str, shape: tuple[int, int, int] = (2, 20, 28)) -> Any:
    """A tiny variant whose noise and biases, which start at zero, have a say; (20, 28): base 5x7, two doublings."""
    module = tiny_module(arch, image_shape=shape)
    for parameter in module.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return module.eval()


@grows
def test_fade_is_continuous_at_both_ends_of_every_stage(arch: str) -> None:
    module = grown(arch)
    generator, discriminator = module.generator, module.discriminator
    z, images, zero, one = torch.randn(4, 32), torch.randn(4, 2, 20, 28), torch.zeros(()), torch.ones(())
    z = z[:, : module.latent_dim].repeat(1, 2)[:, : module.latent_dim]

    with torch.no_grad():
        for stage in (1, 2):
            for players in (
                lambda s, a: generator(z, None, s, a),
                lambda s, a: discriminator(images, s, a),
            ):
                before, after = players(stage - 1, None), players(stage, None)
                torch.testing.assert_close(players(stage, zero), before)
                torch.testing.assert_close(players(stage, one), after)
                assert (players(stage, one / 2) - before).abs().max() > 1e-3
                assert (players(stage, one / 2) - after).abs().max() > 1e-3


@grows
def test_images_and_verdicts_do_not_jump_from_one_image_seen_to_the_next(arch: str) -> None:
    module = tiny_module(arch, "model.stable_images=1000", "model.fade_images=1000000000")
    batch = tiny_batch(module)
    looked: dict[int, tuple[Tensor, Tensor]] = {}

    with inference(module):
        for module.images_seen in (1000, 1001, 1000001000, 1000000999):
            reals = module.growth.shrunk(batch["image"], *module.stage())
            looked[module.images_seen] = (
                module.generate(sampling_batch(module, 0, range(4))),
                module.logits(reals, module.label(batch)),
            )

    for before, after in ((1000, 1001), (1000000999, 1000001000)):
        for one, other in zip(looked[before], looked[after], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@grows
def test_generated_images_have_full_size_and_the_pixels_of_the_stage(arch: str) -> None:
    module = grown(arch, (1, 16, 24))

    for module.images_seen, side in ((0, 4), (24, 2), (48, 1)):
        with inference(module):
            fake = module.generate(sampling_batch(module, 0, range(2)))

        assert fake.shape == (2, 1, 16, 24)
        assert torch.equal(enlarged(fake[:, :, ::side, ::side], side.bit_length() - 1), fake)


def test_discriminator_is_the_plain_network_of_the_paper() -> None:
    base = pyramid((3, 12, 20), variant="x")
    network = GrowingDiscriminator(3, base, width=4, max_width=8, group=2, outputs=3, blur=True).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    images = torch.randn(4, 3, 12, 20, dtype=torch.float64)

    def conv(layer: Any, h: Tensor) -> Tensor:
        weight = layer.weight * (2 / layer.weight[0].numel()) ** 0.5  # He's deviation
        return F.conv2d(h, weight, padding=weight.shape[-1] // 2)

    def activated(layer: Any, h: Tensor) -> Tensor:
        return F.leaky_relu(h + layer.bias[:, None, None], 0.2)

    h = activated(network.from_images[1], conv(network.from_images[1], images))
    block = network.blocks[0]
    h = activated(block.conv1, conv(block.conv1, h))
    row = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64) / 4
    h = F.conv2d(h, torch.outer(row, row).repeat(4, 1, 1, 1), padding=1, groups=4)
    h = activated(block.conv2, F.avg_pool2d(conv(block.conv2, h), 2))
    h = minibatch_std(h, 2)
    h = activated(network.conv, conv(network.conv, h)).flatten(1)
    dense, head = network.dense, network.head
    h = F.leaky_relu(h @ dense.weight.t() * (2 / h.shape[1]) ** 0.5 + dense.bias, 0.2)
    expected = h @ head.weight.t() / h.shape[1] ** 0.5 + head.bias

    torch.testing.assert_close(network(images), expected)


def test_folded_resampling_is_the_plain_one_with_he_deviation() -> None:
    up, down = EqualizedUpConv(3, 5, gain=1.5), EqualizedDownConv(3, 5, gain=1.5, bias_gain=1.0)
    for layer in (up.double(), down.double()):
        torch.nn.init.normal_(layer.bias)
    inputs = torch.randn(2, 3, 6, 8, dtype=torch.float64)
    scale = 1.5 / 27**0.5

    doubled = F.interpolate(inputs, scale_factor=2, mode="nearest")
    expected_up = F.conv2d(doubled, scale * up.weight.flip(2, 3), 1.5 * up.bias, padding=1)
    expected_down = F.avg_pool2d(F.conv2d(inputs, scale * down.weight, down.bias, padding=1), 2)

    torch.testing.assert_close(up(inputs), expected_up)
    torch.testing.assert_close(down(inputs), expected_down)


# -- training -----------------------------------------------------------------------------------------------


def test_moments_start_anew_where_a_fade_begins_and_ends_also_after_a_resume() -> None:
    growth, weight = Growth(0, 1, stable=8, fade=16), torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([weight])

    def steps_taken(images_seen: int) -> int:
        growth.adjust("d", optimizer, images_seen)
        weight.grad = torch.ones(3)
        optimizer.step()
        return int(optimizer.state[weight]["step"])

    assert [steps_taken(images) for images in (0, 8, 16)] == [1, 2, 1]
    saved = copy.deepcopy(optimizer.state_dict())
    optimizer = torch.optim.Adam([weight])
    optimizer.load_state_dict(saved)
    assert [steps_taken(images) for images in (20, 24, 32)] == [2, 1, 2]


def test_learning_rate_follows_the_stage() -> None:
    module = tiny_module("progan", "model.lr_factors=[1,1.5]", "optim.lr=0.1", "optim.lr_schedule=constant")
    optimizer = module.configure_optimizers()[0]

    rates = []
    for module.images_seen in (0, 16, 24, 48):
        module.schedule("d", optimizer)
        rates.append(optimizer.param_groups[0]["lr"])

    assert rates == pytest.approx([0.1, 0.15, 0.15, 0.15])


def test_resume_is_exact_before_within_and_after_a_fade(tmp_path: Path) -> None:
    phases = ["model.stable_images=16", "model.fade_images=24", "optim.ema_half_life=20"]
    straight = tiny_run(
        "progan", tmp_path, *phases, "run.images=72", "checkpoint.every_images=8", "checkpoint.keep=99"
    )

    for images in (
        16,
        32,
        40,
    ):  # the discriminator's next step is the last before a fade, in it, the first after it
        broken = tmp_path / f"at-{images}"
        shutil.copytree(straight, broken)
        for path in (broken / "checkpoints").glob("*.ckpt"):
            if path.name != f"images-{images:012d}.ckpt":
                path.unlink()
        assert train(compose_run([f"resume={broken}"])) == 0
        for key in TRAINED:
            assert largest_difference(state(straight)[key], state(broken)[key]) == 0, (images, key)


def test_fading_compiles_nothing_anew_and_the_last_stage_is_compiled_too() -> None:
    module = tiny_module("progan")
    images, optimizer = tiny_batch(module)["image"], module.configure_optimizers()[1]
    counter = CompileCounter()
    module.discriminator.compile(backend=counter)

    compiled = [0]
    for module.images_seen in (0, 9, 16, 23, 24, 33, 47, 48, 80):
        module.schedule("g", optimizer)
        module.logits(images)
        module.logits(images.clone().requires_grad_())  # two graphs each, of dynamo's eight
        compiled.append(counter.frame_count)

    assert [b - a for a, b in pairwise(compiled)] == [2, 2, 0, 0, 2, 2, 0, 2, 0]
