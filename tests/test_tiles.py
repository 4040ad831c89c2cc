"""Tiles: the same as the whole image where the network is convolutional, without seams where it is not."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from lit_gan.memory import free_memory, memory_of
from lit_gan.tiles import PROBE, Tiling, fitting, pad_to, starts, through, tile_for


class Convolutional(nn.Module):
    """Reaches `reach` pixels of its input; enlarges by `scale`, after halving where `stride` is 2."""

    def __init__(self, scale: int = 1, stride: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 8, 5, stride=stride, padding=2)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.up = nn.Upsample(scale_factor=scale * stride)
        self.last = nn.Conv2d(8, 2, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return self.last(self.up(self.second(self.first(image).relu()).relu()))


@pytest.mark.parametrize(("scale", "stride", "tile"), [(1, 1, 24), (2, 1, 17), (1, 2, 30), (3, 2, 40)])
@pytest.mark.parametrize("size", [(61, 47), (24, 90), (30, 30), (100, 13)])
def test_tiles_are_the_whole_image(scale: int, stride: int, tile: int, size: tuple[int, int]) -> None:
    network = Convolutional(scale, stride)
    image = torch.rand(1, 3, *size)
    reach = 2 + stride + stride + 1
    tiling = Tiling(stride=stride, scale=scale, reach=reach)

    with torch.no_grad():
        whole = through(network, image, tiling)
        tiled = through(network, image, Tiling(stride, scale, reach, tile))

    assert whole.shape == (1, 2, size[0] * scale, size[1] * scale)
    assert torch.allclose(whole, tiled, atol=1e-6)


def test_a_reach_that_is_told_too_short_shows() -> None:
    network = Convolutional()
    image = torch.rand(1, 3, 61, 47)

    with torch.no_grad():
        whole = through(network, image, Tiling(reach=1))
        tiled = through(network, image, Tiling(reach=1, tile=16))

    assert (whole - tiled).abs().max() > 1e-3


def test_tiles_of_a_global_network_fade_into_each_other() -> None:
    def network(image: Tensor) -> Tensor:  # every tile has a level of its own
        return torch.full_like(image, float(image.mean()))

    image = torch.linspace(0, 1, 300).expand(1, 1, 40, 300)

    made = through(network, image, Tiling(tile=128))

    steps = (made[..., 1:] - made[..., :-1]).abs()
    assert steps.max() < 0.02  # a hard edge would be a step of a third
    assert made[0, 0, 0, -1] - made[0, 0, 0, 0] > 0.4


@pytest.mark.parametrize(
    ("length", "side", "stride"), [(100, 32, 1), (101, 32, 4), (500, 96, 8), (33, 32, 1)]
)
def test_every_pixel_is_covered_and_neighbours_share_the_overlap(length: int, side: int, stride: int) -> None:
    tiling = Tiling(stride=stride, reach=5)
    padded = -(-length // stride) * stride

    found = starts(padded, side, tiling)

    assert found[0] == 0
    assert found[-1] + side >= padded
    assert all(start % stride == 0 for start in found)
    assert all(a + side - b >= tiling.overlap for a, b in itertools.pairwise(found))


@pytest.mark.parametrize(
    ("length", "side", "stride"), [(3000, 512, 1), (2000, 512, 4), (100, 32, 1), (101, 31, 2), (513, 512, 8)]
)
def test_tiles_are_no_larger_than_their_number_asks_for(length: int, side: int, stride: int) -> None:
    tiling = Tiling(stride=stride, reach=9)
    padded, side = -(-length // stride) * stride, side // stride * stride

    found = fitting(padded, side, tiling)

    number = len(starts(padded, found, tiling))
    assert found % stride == 0
    assert number == len(starts(padded, side, tiling))
    doubled = (number - 1) * tiling.overlap  # nothing else is computed twice, but what fills up whole strides
    assert number * found <= padded + doubled + number * stride
    assert len(starts(padded, found - stride, tiling)) > number


@pytest.mark.parametrize("size", [(5, 7), (8, 8), (1, 9), (1, 1), (3, 2)])
def test_padding_reflects_and_keeps_the_image(size: tuple[int, int]) -> None:
    image = torch.rand(2, 3, *size)

    padded = pad_to(image, 8)

    assert padded.shape == (2, 3, 8, 16 if size[1] > 8 else 8)
    assert torch.equal(padded[:, :, : size[0], : size[1]], image)
    if size == (5, 7):
        assert torch.equal(padded[:, :, :5, 7], image[:, :, :, 5])


def test_memory_chooses_the_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Convolutional()
    image = torch.rand(1, 3, 300, 400)
    tiling = Tiling(reach=5)

    monkeypatch.setattr("lit_gan.tiles.memory_of", lambda *_: 256 * 256 * 100)  # 100 bytes a pixel
    for free, side in ((10**9, None), (2 * 100 * 128**2, 128), (1, tiling.least)):
        monkeypatch.setattr("lit_gan.tiles.free_memory", lambda _, free=free: free)
        assert tile_for(network, image, tiling) == side
    monkeypatch.setattr("lit_gan.tiles.free_memory", lambda _: None)
    assert tile_for(network, image, tiling) is None  # no side of it is above UNKNOWN


def test_what_is_no_larger_than_the_probe_is_not_translated_twice() -> None:
    seen = []

    def network(image: Tensor) -> Tensor:
        seen.append(image.shape)
        return image

    assert tile_for(network, torch.rand(1, 3, PROBE, PROBE), Tiling(reach=5)) is None
    assert not seen


def test_memory_is_measured_where_it_can_be() -> None:
    device = torch.device("cpu")
    if free_memory(device) is None:
        pytest.skip("this system does not tell")

    def hungry(image: Tensor) -> Tensor:
        return torch.ones(50_000_000).sum() + image  # 200 MB

    taken = memory_of(hungry, torch.zeros(1, 1, 8, 8))

    assert taken is not None
    assert 150e6 < taken < 400e6


@pytest.mark.parametrize("size", [(5, 7), (1, 40), (16, 16), (17, 2)])
def test_padding_reaches_the_least_side_in_whole_strides(size: tuple[int, int]) -> None:
    image = torch.rand(1, 1, *size)

    padded = pad_to(image, 4, 10)

    assert padded.shape[2:] == tuple(max(12, -(-side // 4) * 4) for side in size)
    assert torch.equal(padded[:, :, : size[0], : size[1]], image)


def test_no_tile_is_below_the_least_side() -> None:
    seen = []

    def network(image: Tensor) -> Tensor:
        seen.append(min(image.shape[2:]))
        return image

    through(network, torch.rand(1, 1, 100, 20), Tiling(stride=4, reach=0, least_side=30, tile=8))

    assert len(seen) > 1
    assert min(seen) >= 30
