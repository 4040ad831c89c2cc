"""Batches: order, ranges, flips, workers, resuming."""

from __future__ import annotations

import itertools
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lit_gan.data import build_data
from lit_gan.data.base import Gather, normalize
from lit_gan.data.order import Order
from lit_gan.errors import UserError


def digits(seed=0, draws=1, d_steps=1, **keywords):
    data = build_data("digits", **{"image_size": 8, "flip": True, **keywords})
    data.configure(seed=seed, d_steps=d_steps, draws=draws)
    return data


def trainer(images_seen=0, rank=0, world=1):
    return SimpleNamespace(
        global_rank=rank,
        world_size=world,
        lightning_module=SimpleNamespace(images_seen=images_seen),
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )


def batches(data, count, **state):
    data.trainer = trainer(**state)
    return list(itertools.islice(iter(data.train_dataloader()), count))


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_normalize_is_exact_for_all_256_levels():
    levels = torch.arange(256, dtype=torch.uint8)

    values = normalize(levels)

    assert values.dtype == torch.float32
    assert (values[0], values[-1]) == (-1, 1)
    assert torch.equal(((values + 1) * 127.5).round().to(torch.uint8), levels)
    assert (values.double() - (torch.arange(256) / 127.5 - 1).double()).abs().max() < 1e-7


def test_batch_is_uint8_in_channels_last_with_label_and_flip():
    data = digits(channels=3)

    batch = batches(data, 1)[0]

    assert batch["image"].shape == (64, 3, 8, 8)
    assert batch["image"].dtype == torch.uint8
    assert batch["image"].is_contiguous(memory_format=torch.channels_last)
    assert batch["label"].dtype == torch.int64
    assert batch["flip"].dtype == torch.bool


def test_batch_on_the_device_is_float_flipped_and_channels_last():
    data = digits(channels=3)
    raw = batches(data, 1)[0]

    batch = data.on_after_batch_transfer(raw, 0)

    assert set(batch) == {"image", "label"}
    assert batch["image"].is_contiguous(memory_format=torch.channels_last)
    for before, after, flip in zip(raw["image"], batch["image"], raw["flip"], strict=True):
        assert torch.equal(after, normalize(before.flip(-1) if flip else before))
    assert "flip" in raw


def test_cycle_shows_every_image_once_with_its_label():
    data = digits(batch_size=599, flip=False)  # 1797 = 3 * 599

    cycle = batches(data, 3)

    seen = torch.cat([batch["image"] for batch in cycle]).permute(0, 2, 3, 1).reshape(1797, -1)
    labels = torch.cat([batch["label"] for batch in cycle])
    shown = sorted(zip(seen.tolist(), labels.tolist(), strict=True))
    stored = sorted(zip(data.images.reshape(1797, -1).tolist(), data.labels.tolist(), strict=True))
    assert shown == stored


def test_batches_are_the_same_with_0_and_2_workers():
    alone, helped = (batches(digits(workers=workers), 6) for workers in (0, 2))

    assert all(equal(a, b) for a, b in zip(alone, helped, strict=True))


def test_resuming_at_step_k_equals_the_straight_stream():
    straight = batches(digits(draws=3, d_steps=2), 40)

    resumed = batches(digits(draws=3, d_steps=2), 7, images_seen=33 * 2 * 64)

    assert all(equal(a, b) for a, b in zip(straight[33:], resumed, strict=True))


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_every_global_batch(world):
    whole = batches(digits(batch_size=60, draws=2), 3)
    shares = [batches(digits(batch_size=60, draws=2), 3, rank=rank, world=world) for rank in range(world)]

    for step, batch in enumerate(whole):
        for key, value in batch.items():
            parts = [share[step][key].unflatten(0, (2, 60 // world)) for share in shares]
            assert torch.equal(torch.cat(parts, dim=1).flatten(0, 1), value)


def test_seed_changes_the_order():
    assert not equal(batches(digits(seed=0), 1)[0], batches(digits(seed=1), 1)[0])


def test_real_batch_gives_the_stored_images():
    data = digits()

    batch = data.real_batch([5, 3, 5])

    assert torch.equal(batch["image"][:, 0], torch.from_numpy(np.array(data.images[[5, 3, 5], :, :, 0])))
    assert batch["label"].tolist() == data.labels[[5, 3, 5]].tolist()
    assert equal(batch, data.real_batch(torch.tensor([5, 3, 5])))


def test_toy_points_pass_unchanged():
    data = build_data("toy", count=100, batch_size=10)
    data.configure(seed=0)

    raw = batches(data, 1)[0]
    batch = data.on_after_batch_transfer(raw, 0)

    assert batch["image"].shape == (10, 2, 1, 1)
    assert batch["image"].dtype == torch.float32
    assert torch.equal(batch["image"], raw["image"])


def test_pickled_loader_holds_a_path_and_not_the_images():
    data = digits(image_size=64)
    gather = Gather(data.content, Order(data.size, 0), flip=False)

    pickled = pickle.dumps(gather)

    assert len(pickled) < data.images.nbytes / 100
    positions = np.arange(4)
    assert equal(pickle.loads(pickled).__getitems__(positions), gather.__getitems__(positions))


def test_batch_larger_than_the_data_is_refused():
    data = build_data("digits", image_size=8, batch_size=2048)

    with pytest.raises(UserError, match=r"data\.batch_size=2048 .* 1797 images of digits; use at most 1797"):
        data.configure(seed=0)


def test_state_survives_a_checkpoint():
    data = digits()

    digits().load_state_dict(data.state_dict())


def test_resuming_on_other_data_is_refused_and_names_both():
    state = build_data("toy", count=10, batch_size=2)
    state.configure(seed=0)

    with pytest.raises(UserError, match=r"trained on toy ring .* these data are digits"):
        digits().load_state_dict(state.state_dict())


def test_state_is_plain_enough_for_weights_only_loading(tmp_path):
    torch.save(digits().state_dict(), tmp_path / "state.pt")

    assert torch.load(tmp_path / "state.pt", weights_only=True)["name"] == "digits"
