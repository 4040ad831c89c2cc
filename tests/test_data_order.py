"""The order of the images: pure, complete, sharded, resumable."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lit_gan.data.order import Order, StepBatches, splitmix64
from lit_gan.errors import UserError


def stream(count: int, **settings: int) -> list[np.ndarray]:
    return list(itertools.islice(iter(StepBatches(**settings)), count))


def test_splitmix64_agrees_with_the_published_sequence():
    seed = np.uint64(1234567)
    with np.errstate(over="ignore"):
        states = seed + np.arange(3, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)

    words = splitmix64(states)

    assert words.tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("size", [1, 7, 100])
def test_every_cycle_holds_every_image_once(size):
    order = Order(size, seed=3)

    indices, _ = order(np.arange(5 * size))

    for cycle in indices.reshape(5, size):
        assert sorted(cycle) == list(range(size))


def test_cycles_and_seeds_differ():
    indices, flips = Order(50, seed=0)(np.arange(100))
    others, other_flips = Order(50, seed=1)(np.arange(100))

    assert indices[:50].tolist() != indices[50:].tolist()
    assert indices.tolist() != others.tolist()
    assert flips.tolist() != other_flips.tolist()


def test_order_is_a_function_of_the_position_alone():
    size, positions = 10, np.arange(95)
    indices, flips = Order(size, seed=5)(positions)
    shuffled = np.random.default_rng(0).permutation(positions)

    again, flips_again = Order(size, seed=5)(shuffled)

    assert (again == indices[shuffled]).all()
    assert (flips_again == flips[shuffled]).all()


def test_half_of_the_images_are_flipped_independently_of_the_cycle():
    _, flips = Order(1000, seed=0)(np.arange(20_000))

    assert abs(flips.mean() - 0.5) < 4 * 0.5 / np.sqrt(20_000)
    assert abs(np.corrcoef(flips[:10_000], flips[10_000:])[0, 1]) < 0.04


def test_every_image_is_equally_likely_at_every_place():
    first = [int(Order(10, seed)(np.array([0]))[0][0]) for seed in range(2000)]

    counts = np.bincount(first, minlength=10)

    assert ((counts - 200) ** 2 / 200).sum() < 27.9  # chi-squared with 9 degrees of freedom, p = 0.001


@pytest.mark.parametrize("world", [1, 2, 3])
def test_union_over_the_ranks_does_not_depend_on_their_number(world):
    batch_size, draws, steps = 12, 2, 4
    straight = np.stack(stream(steps, batch_size=batch_size, draws=draws)).reshape(steps, draws, batch_size)

    shares = [
        np.stack(stream(steps, batch_size=batch_size, draws=draws, rank=rank, world=world))
        for rank in range(world)
    ]

    joined = np.concatenate([share.reshape(steps, draws, -1) for share in shares], axis=-1)
    assert (joined == straight).all()


def test_stream_reads_every_position_once():
    positions = np.concatenate(stream(5, batch_size=6, draws=3))

    assert positions.tolist() == list(range(90))


def test_stream_from_step_k_continues_the_straight_stream():
    straight = stream(10, batch_size=8, draws=2, rank=1, world=2)

    resumed = stream(6, batch_size=8, draws=2, rank=1, world=2, start_step=4)

    assert all((a == b).all() for a, b in zip(straight[4:], resumed, strict=True))


def test_stream_has_no_length():
    with pytest.raises(TypeError):
        len(StepBatches(batch_size=4))


def test_batch_that_the_processes_cannot_share_is_refused():
    with pytest.raises(UserError, match=r"data\.batch_size=64 .* 3 processes; use data\.batch_size=63"):
        StepBatches(batch_size=64, world=3)
