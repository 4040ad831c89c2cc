"""CycleGAN: its losses written out, its pool, and that it goes on exactly where it was."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

import processes
from lit_gan.errors import UserError
from lit_gan.freezing import layers_in_order
from lit_gan.players import total
from lit_gan.sampling import inference
from lit_gan.strategy import assert_ranks_equal
from lit_gan.variants.cyclegan import CycleGAN, ImagePool
from translators import assert_each_loss_reaches_its_player_alone, take_steps, unpaired

SMALL = (3, 16, 16)


def tiny(
    source: tuple[int, int, int] = SMALL, image: tuple[int, int, int] = SMALL, **keywords: Any
) -> CycleGAN:
    torch.manual_seed(0)
    settings = {"width": 4, "blocks": 1, "field": 16, **keywords}
    return CycleGAN(source_shape=source, image_shape=image, **settings)


def test_parameters_are_those_of_the_published_networks():
    with torch.device("meta"):
        large = CycleGAN()
        small = CycleGAN(image_shape=(3, 128, 128), source_shape=(3, 128, 128))

    for module, count in ((large, 11_378_179), (small, 7_837_699)):
        for part in module.generator.children():
            assert sum(p.numel() for p in part.parameters()) == count
    for part in large.discriminator.children():
        assert sum(p.numel() for p in part.parameters()) == 2_764_737


@pytest.mark.parametrize("adversarial", ["least_squares", "relativistic"])
@pytest.mark.parametrize(
    ("source", "image", "identity"),
    [
        ((1, 16, 16), (3, 16, 16), 0.0),
        ((4, 12, 20), (1, 12, 20), 0.0),
        ((3, 16, 28), (3, 16, 28), 5.0),
    ],
)
def test_each_loss_reaches_its_player_alone_for_any_channels_and_sides(source, image, identity, adversarial):
    module = tiny(source, image, identity_weight=identity, adversarial=adversarial)
    batch = unpaired(source, image)

    assert_each_loss_reaches_its_player_alone(module, batch)
    assert set(batch) == set(module.needs)
    assert module.fakes(batch).shape == (2, *image)


def test_generator_loss_is_the_papers_written_out():
    module = tiny(identity_weight=5.0)
    batch = unpaired(SMALL, SMALL)
    a, b = batch["source"], batch["image"]
    to_b, to_a = module.generator.image, module.generator.source

    terms = module.generator_loss(batch)

    def l1(x: Tensor, y: Tensor) -> float:
        return (x - y).abs().mean().item()

    expected = {
        "adversarial": (module.discriminator.image(to_b(a)) - 1).square().mean().item(),
        "adversarial_source": (module.discriminator.source(to_a(b)) - 1).square().mean().item(),
        "cycle": 10 * (l1(to_a(to_b(a)), a) + l1(to_b(to_a(b)), b)),
        "identity": 5 * (l1(to_b(b), b) + l1(to_a(a), a)),
    }
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-5)


def test_discriminators_are_shown_their_own_domain():
    module = tiny((1, 16, 16), (3, 16, 16), pool_size=0)
    batch = unpaired((1, 16, 16), (3, 16, 16))

    terms = module.discriminator_loss(batch)

    for suffix, real, fake, judge in (
        ("", batch["image"], module.generator.image(batch["source"]), module.discriminator.image),
        ("_source", batch["source"], module.generator.source(batch["image"]), module.discriminator.source),
    ):
        loss = ((judge(real) - 1).square().mean() + judge(fake).square().mean()) / 2
        assert terms["adversarial" + suffix].item() == pytest.approx(loss.item(), rel=1e-5)


def test_generate_goes_both_ways_alone_or_in_a_batch_without_the_global_stream():
    module = tiny((1, 16, 16), (3, 16, 16))
    batch = unpaired((1, 16, 24), (3, 16, 24), size=3)
    before = torch.get_rng_state()

    with inference(module):
        images, sources, back = module.generate(batch), module.generate_source(batch), module.cycle(batch)
        alone = torch.cat([module.generate({"source": source[None]}) for source in batch["source"]])

        assert torch.equal(back, module.generator.source(module.generator.image(batch["source"])))
    assert images.shape == (3, 3, 16, 24)
    assert sources.shape == back.shape == (3, 1, 16, 24)
    assert images.dtype == torch.float32
    assert torch.allclose(images, alone, atol=1e-5)
    assert torch.equal(before, torch.get_rng_state())


def test_what_cannot_be_is_named():
    with pytest.raises(UserError, match=r"set model\.identity_weight=0"):
        tiny((1, 16, 16), (3, 16, 16), identity_weight=5.0)
    with pytest.raises(UserError, match=r"cyclegan with model\.field=70 needs images of at least"):
        tiny(field=70)
    with pytest.raises(UserError, match="multiples of 4"):
        tiny((3, 18, 18), (3, 18, 18))


def test_freeze_d_takes_the_first_layers_of_both_discriminators():
    module = tiny()
    first = [layers_in_order(module.discriminator)[i][0] for i in range(2)]

    assert first[0] is module.discriminator.image.layers[0][0].weight
    assert first[1] is module.discriminator.source.layers[0][0].weight
    assert sum(map(len, layers_in_order(module.discriminator))) == len(
        list(module.discriminator.parameters())
    )


def test_compiled_discriminators_have_the_same_gradients():
    batch = unpaired(SMALL, SMALL)
    gradients = []
    for compiled in (False, True):
        module = tiny(adversarial="relativistic")
        if compiled:
            module.generator.compile(backend="aot_eager")
            module.discriminator.compile(backend="aot_eager")
        total(module.discriminator_loss(batch)).backward()
        gradients.append([p.grad for p in module.discriminator.parameters()])

    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5)


def test_bfloat16_losses_are_near_those_in_float32():
    batch = unpaired(SMALL, SMALL)
    exact = total(tiny().discriminator_loss(batch)).item(), total(tiny().generator_loss(batch)).item()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = total(tiny().discriminator_loss(batch)).item(), total(tiny().generator_loss(batch)).item()

    assert rounded == pytest.approx(exact, rel=0.05)


def test_resumed_training_is_the_unbroken_one_to_the_last_bit():
    batches = [unpaired(SMALL, SMALL, seed=i) for i in range(6)]
    straight = tiny(pool_size=3)
    take_steps(straight, batches[:3])
    broken = tiny(pool_size=3)
    broken.load_state_dict(copy.deepcopy(straight.state_dict()))
    straight.configure_optimizers()
    broken.images_seen = straight.images_seen

    assert take_steps(straight, batches[3:]) == take_steps(broken, batches[3:])
    for name, tensor in straight.state_dict().items():
        assert torch.equal(tensor, broken.state_dict()[name]), name
    assert straight.pools["image"].filled.item() == 3


def numbered(*numbers: float) -> Tensor:
    """Images [N, 1, 1, 2] that are one number each."""
    return torch.tensor(numbers)[:, None, None, None].expand(-1, 1, 1, 2).contiguous()


def test_pool_returns_what_it_is_given_until_it_is_full():
    pool = ImagePool(5, (1, 1, 2))

    shown = torch.cat([pool(numbered(0, 1)), pool(numbered(2, 3)), pool(numbered(4))])

    assert torch.equal(shown, numbered(0, 1, 2, 3, 4))
    assert torch.equal(pool.bits.view(torch.float32), numbered(0, 1, 2, 3, 4).flatten(1))


def test_full_pool_returns_an_old_fake_half_of_the_time_and_keeps_the_new_one_in_its_place():
    pool, size, count = ImagePool(10, (1, 1, 2)), 10, 2000
    pool(numbered(*range(size)))
    kept, ages = set(map(float, range(size))), []

    for new in range(size, size + count):
        (out,) = pool(numbered(new))[:, 0, 0, 0].tolist()
        if out != new:
            assert out in kept
            kept = kept - {out} | {float(new)}
            ages.append(new - out)
        assert set(pool.bits.view(torch.float32)[:, 0].tolist()) == kept

    assert len(ages) / count == pytest.approx(0.5, abs=5 * math.sqrt(0.25 / count))
    # A fake that was kept leaves with probability 1 / (2 size) at each step: a mean age of 2 x size.
    assert sum(ages) / len(ages) == pytest.approx(2 * size, rel=0.2)


def test_pool_keeps_every_bit_and_is_saved_as_it_is():
    pool = ImagePool(2, (1, 1, 2))
    odd = torch.tensor([[[[-0.0, 1e-42]]]])  # a mean over ranks in floating point could lose them

    shown = pool(odd)
    other = ImagePool(2, (1, 1, 2))
    other.load_state_dict(pool.state_dict())

    assert torch.equal(shown.view(torch.int32), odd.view(torch.int32))
    assert torch.equal(other.bits, pool.bits)
    assert other.filled.item() == 1
    assert not any(buffer.is_floating_point() for buffer in pool.buffers())


def _pool_on_a_rank(rank: int) -> None:
    dist.init_process_group("gloo", rank=rank, world_size=2)
    module = torch.nn.Module()
    module.pool = ImagePool(4, (1, 1, 2))
    swapped = 0
    for step in range(30):
        torch.manual_seed(100 * step + rank)  # as the step's stream: each rank has its own
        mine = numbered(10 * step + 2 * rank, 10 * step + 2 * rank + 1)
        shown = module.pool(mine)
        assert shown.shape == mine.shape
        if step < 1:
            assert torch.equal(shown, mine)
        swapped += int((shown != mine).any(3).sum())
        assert_ranks_equal(module)
        if step == 0:
            assert module.pool.bits.view(torch.float32)[:, 0].tolist() == [0, 1, 2, 3]
    assert 10 < swapped < 50
    dist.destroy_process_group()


def test_two_ranks_keep_one_pool_of_the_fakes_of_both():
    processes.on_ranks(2, _pool_on_a_rank)
