"""Neighbours by matrix products are, bit for bit, those by the differences of all pairs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lit_gan.metrics import neighbours
from lit_gan.metrics.neighbours import (
    ball_counts,
    mutual_membership,
    nearest,
    nearest_few,
    neighbour_radii,
    radii_without,
)
from metrics_helpers import normal

TILES = [5, 32, 2048]
K = 3


def lattice(n: int, seed: int) -> Tensor:
    return torch.randint(0, 3, (n, 4), generator=torch.Generator().manual_seed(seed)).float()


SIDES = {
    "random": (normal(60), normal(50, seed=1)),
    "duplicates": (normal(6).repeat(10, 1), torch.cat([normal(6), normal(6, seed=1)]).repeat(4, 1)),
    "copies": (normal(60, d=64), normal(60, d=64).flip(0)[:50]),
    "all equal": (torch.ones(60, 3), torch.ones(50, 3)),
    "lattice": (lattice(60, 0), lattice(50, 1)),
    "far from the origin": (normal(60) + 1e4, normal(50, seed=1) + 1e4),
    "two places far apart": (
        torch.cat([normal(30), normal(30, seed=1) + 3e6]),
        torch.cat([normal(25, seed=2), normal(25, seed=3) + 3e6]),
    ),
    "2048 dimensions": (normal(40, d=2048), normal(30, d=2048, seed=1)),
}
DATA = pytest.mark.parametrize(("x", "y"), SIDES.values(), ids=SIDES.keys())


def plain(x: Tensor, y: Tensor) -> Tensor:
    return torch.cdist(x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist")


def plain_radii(points: Tensor, k: int, of: Tensor | None = None) -> Tensor:
    """To the k-th neighbour among the points that `of` [N] marks."""
    apart = plain(points, points).fill_diagonal_(torch.inf)
    return (apart if of is None else apart[:, of]).kthvalue(k, dim=1).values


def group(n: int) -> Tensor:
    return torch.arange(n) * 4 // n


def results(x: Tensor, y: Tensor, tile: int) -> dict[str, Tensor]:
    wide, x_radii, y_radii = radii_without(x, K, group(len(x)), tile), plain_radii(x, K), plain_radii(y, K)
    around, inside = ball_counts(y, y_radii, x, tile)
    x_in_y, y_in_x = mutual_membership(x, torch.stack([x_radii, x_radii * 1.5]), y, y_radii, tile)
    distance, value = nearest(x, y, y_radii, tile)
    few, places = nearest_few(x[:6], y, 5, tile)
    return {
        "radii": neighbour_radii(x, K, tile), "radii without a group": wide, "around": around, "inside": inside,
        "x in y": x_in_y, "y in x": y_in_x, "distance": distance, "value": value, "few": few, "places": places,
    }  # fmt: skip


def expected(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    x_radii, y_radii, apart = plain_radii(x, K), plain_radii(y, K), plain(x, y)
    held = apart <= y_radii
    around = [(apart <= wide[:, None]).any(0) for wide in (x_radii, x_radii * 1.5)]
    tied = apart == apart.amin(1, keepdim=True)
    few = apart[:6].sort(dim=1, stable=True)
    return {
        "radii": x_radii,
        "radii without a group": torch.stack(
            [x_radii, *(plain_radii(x, K, group(len(x)) != g) for g in range(4))]
        ),
        "around": held.sum(1),
        "inside": held.sum(0),
        "x in y": held.any(1),
        "y in x": torch.stack(around),
        "distance": apart.amin(1),
        "value": torch.where(tied, y_radii, -torch.inf).amax(1),
        "few": few.values[:, :5],
        "places": few.indices[:, :5],
    }


@DATA
@pytest.mark.parametrize("tile", TILES)
def test_results_are_those_of_all_pairs_bit_for_bit(x: Tensor, y: Tensor, tile: int):
    found, right = results(x, y, tile), expected(x, y)

    assert found.keys() == right.keys()
    assert [name for name in right if not torch.equal(found[name], right[name])] == []


@pytest.mark.parametrize("share", [1e-3, 10.0])
def test_results_stay_however_many_pairs_are_in_doubt(share: float, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(neighbours, "_rounding", lambda dim: share)
    x, y = SIDES["random"]

    found, right = results(x, y, 32), expected(x, y)

    assert [name for name in right if not torch.equal(found[name], right[name])] == []


def test_without_the_margin_ties_would_be_decided_by_rounding(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(neighbours, "_rounding", lambda dim: 0.0)
    x = normal(60) + 1e4  # each point's k-th neighbour lies on the rim of its ball

    around, _ = ball_counts(x, plain_radii(x, K), x)

    assert not torch.equal(around, (plain(x, x) <= plain_radii(x, K)).sum(1))


@DATA
def test_squares_are_off_by_no_more_than_the_margin(x: Tensor, y: Tensor):
    for _, _, pairs in neighbours._tiles(x, y, 2048):
        off = (pairs.squares - plain(x, y).square()).abs()

        assert (off <= pairs.margin / 2).all()  # half of the margin is for what bounds are computed from it


@pytest.mark.parametrize("dim", [1, 2, 7, 64, 2048, 3001])
def test_a_pair_has_the_same_distance_wherever_it_is_computed(dim: int):
    x, y = normal(23, d=dim), normal(19, d=dim, seed=1)
    i, j = (rows.flatten() for rows in torch.meshgrid(torch.arange(23), torch.arange(19), indexing="ij"))

    single = neighbours._pair_distances(x, i, y, j).reshape(23, 19)

    assert torch.equal(single, plain(x, y))
    assert torch.equal(single, plain(y, x).T)
    assert torch.equal(single[3:4, 5:], plain(x[3:4], y[5:]))
    assert torch.equal(single.flatten()[7:8], neighbours._pair_distances(y, j[7:8], x, i[7:8]))
    assert neighbours._pair_distances(x, i[:0], y, j[:0]).shape == (0,)


def test_single_pairs_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(neighbours, "PAIRS", 16)  # two pairs of 8 dimensions

    test_results_are_those_of_all_pairs_bit_for_bit(*SIDES["random"], tile=32)


class Largest(TorchDispatchMode):
    """Remembers the most numbers that any operation gave."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return result


@pytest.mark.parametrize("shared", [normal, lambda n, seed=0: lattice(n, seed)], ids=["random", "lattice"])
def test_no_more_than_a_tile_of_distances_is_ever_held(shared, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(neighbours, "PAIRS", 1024)
    x, y = shared(400), shared(300, seed=1)
    with Largest() as largest:
        radii = neighbour_radii(x, K, 32)
        ball_counts(x, radii, y, 32)
        mutual_membership(x, radii[None], y, torch.ones(300), 32)
        nearest(x, y, torch.ones(300), 32)
        nearest_few(x[:8], y, 5, 32)

    assert largest.numbers <= 2 * 400 * (K + neighbours.SPARE)  # all distances are 120,000, a tile has 1,024
