"""The network that translates: its sizes, taps and filters."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from lit_gan.errors import UserError
from lit_gan.networks.translator import Halve, Translator, blocks_for, check_shapes, reflected


@pytest.mark.parametrize(("blocks", "count"), [(9, 11_378_179), (6, 7_837_699)])
@pytest.mark.parametrize("antialias", [False, True])
def test_parameters_are_those_of_the_published_networks(blocks, count, antialias):
    with torch.device("meta"):
        network = Translator(3, 3, 64, blocks, antialias=antialias)

    assert sum(p.numel() for p in network.parameters()) == count


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("size", [(8, 8), (12, 20), (32, 16)])
def test_translates_any_multiples_of_four_to_the_same_size(antialias, size):
    network = Translator(4, 1, 4, 1, antialias=antialias)

    with torch.autocast("cpu", torch.bfloat16):
        image = network(torch.randn(2, 4, *size))

    assert image.shape == (2, 1, *size)
    assert image.dtype == torch.float32
    assert image.abs().max() <= 1


@pytest.mark.parametrize("antialias", [False, True])
def test_taps_are_what_the_whole_pass_goes_through_and_stop_it_early(antialias):
    network = Translator(3, 3, 4, 3, antialias=antialias)
    images = torch.randn(2, 3, 16, 16)
    seen = {}
    layers = {"down1": network.downs[0], "down2": network.downs[1]}
    layers |= {f"block{i + 1}": block for i, block in enumerate(network.blocks)}
    for name, layer in layers.items():
        layer.register_forward_hook(lambda _, __, output, name=name: seen.__setitem__(name, output))
    taps = ["block2", "down1", "input", "down2"]

    h, whole = network.encode(images, taps)
    assert seen.pop("block3") is h
    _, early = network.encode(images, taps, whole=False)

    assert "block3" not in seen, "nobody asked for it"
    for tap, maps, again in zip(taps, whole, early, strict=True):
        assert torch.equal(maps, again)
        assert torch.equal(again, images if tap == "input" else seen[tap])
        assert maps.shape[1] == network.maps[tap]


def test_deterministic_reflection_is_the_other_one():
    images = torch.randn(2, 3, 6, 9)
    quick = reflected(images, 3)
    torch.use_deterministic_algorithms(True)
    try:
        slow = reflected(images, 3)
    finally:
        torch.use_deterministic_algorithms(False)

    assert torch.equal(quick, slow)


@pytest.mark.parametrize("size", [(8, 8), (7, 10)])
def test_halving_takes_every_second_pixel_of_the_filtered_image(size):
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    row = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64) / 4
    kernel = torch.outer(row, row).expand(3, 1, 3, 3)

    filtered = F.conv2d(F.pad(images, (1, 1, 1, 1), mode="reflect"), kernel, groups=3)

    assert torch.allclose(Halve()(images), filtered[:, :, ::2, ::2])


def test_halved_and_doubled_constants_stay_what_they_are():
    images = torch.full((1, 2, 8, 8), 0.7)
    network = Translator(1, 1, 2, 1, antialias=True)
    halve, double = network.after_down[0][2], network.ups[0]

    assert torch.allclose(double(halve(images)), images)


def test_shapes_that_cannot_be_translated_are_named():
    assert blocks_for((3, 255, 400), None) == 6
    assert blocks_for((3, 256, 256), None) == 9
    assert blocks_for((3, 256, 256), 2) == 2
    check_shapes((1, 8, 12), (4, 8, 12), variant="cut")
    with pytest.raises(UserError, match="cut cannot translate images of 30x32"):
        check_shapes((1, 30, 32), (1, 30, 32), variant="cut")
    with pytest.raises(UserError, match="sources have 8x8 pixels, the images 8x12"):
        check_shapes((1, 8, 12), (1, 8, 8), variant="cut")
