"""Authenticity and MiFID: copies are told from samples that were not learnt from, in the right direction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lit_gan.metrics import Authenticity, FrechetDistance, MemorisationFID
from lit_gan.metrics.memorisation import nearest_cosine_distances
from metrics_helpers import distances, normal, radii, value


def test_copies_are_not_authentic_held_out_samples_are_half_the_time_and_noise_is():
    real, held_out = normal(800), normal(800, seed=1)

    assert value(Authenticity, real, real[:300]) == (0,)
    assert value(Authenticity, torch.cat([real, real]), real) == (0,)  # also where every real is there twice
    assert value(Authenticity, real, held_out)[0] == pytest.approx(0.58, abs=0.08)
    assert value(Authenticity, real, torch.cat([held_out[:400], real[:400]]))[0] == pytest.approx(
        0.27, abs=0.05
    )
    assert value(Authenticity, real, held_out + normal(800, seed=2, scale=4))[0] > 0.95


def test_authenticity_equals_its_definition():
    real, fake = normal(60), normal(50, seed=1)
    apart, own = distances(fake, real), radii(real, 1)

    expected = np.mean(apart.min(1) > own[apart.argmin(1)])

    assert value(Authenticity, real, fake) == pytest.approx((expected,))


def fid(real: Tensor, fake: Tensor) -> float:
    metric = FrechetDistance(real.shape[1])
    metric.update(real, real=True)
    metric.update(fake, real=False)
    return float(metric.compute())


def test_mifid_is_fid_over_the_fakes_mean_distance_to_their_nearest_real():
    real, fake = normal(200), normal(200)[:150] + normal(150, seed=1, scale=0.3)
    unit = [rows.double() / rows.double().norm(dim=1, keepdim=True) for rows in (fake, real)]
    m = float((1 - (unit[0] @ unit[1].T).abs()).min(1).values.mean())

    assert 0.01 < m < 0.1
    assert value(MemorisationFID, real, fake)[0] == pytest.approx(fid(real, fake) / m, rel=1e-6)


def test_mifid_is_fid_where_no_fake_is_near_a_real():
    real, fake = normal(100, d=32), normal(100, d=32, seed=1)

    assert value(MemorisationFID, real, fake)[0] == pytest.approx(fid(real, fake), rel=1e-9)


def test_mifid_flags_five_copies_which_torchmetrics_passes():
    from torchmetrics.image.mifid import MemorizationInformedFrechetInceptionDistance

    real = normal(300, d=32)
    copies = real[:5].repeat(60, 1)
    theirs = MemorizationInformedFrechetInceptionDistance(feature=torch.nn.Identity())
    theirs.update(real, real=True)
    theirs.update(copies, real=False)

    plain = fid(real, copies)

    assert value(MemorisationFID, real, copies)[0] == pytest.approx(plain * 1e9, rel=1e-6)
    assert float(theirs.compute()) == pytest.approx(plain, rel=1e-3)  # the penalty is 1


def test_mifid_of_copies_does_not_hang_on_the_last_digits_of_their_features():
    real = normal(300, d=32)
    copies = real[:5].repeat(60, 1)
    rounded = copies * (1 + 2e-7 * normal(300, d=32, seed=1))

    assert value(MemorisationFID, real, rounded)[0] == pytest.approx(
        value(MemorisationFID, real, copies)[0], rel=1e-3
    )


def test_a_negative_is_a_copy_and_a_vector_of_zeros_is_far_from_everything():
    points = torch.cat([normal(4), torch.zeros(1, 8)])

    assert nearest_cosine_distances(-2 * points, points).tolist() == pytest.approx([0, 0, 0, 0, 1], abs=1e-15)
    assert nearest_cosine_distances(points, torch.zeros(1, 8)).tolist() == [1] * 5
