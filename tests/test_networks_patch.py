"""PatchGAN: what a logit sees, and the parameters of the published networks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_gan.errors import UserError
from lit_gan.networks.patch import FIELDS, PatchDiscriminator

fields = pytest.mark.parametrize("field", FIELDS)


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


COUNTS = {  # of 6 channels: with batch norm, with instance norm
    1: (9_024, 8_897),
    16: (139_585, 139_457),
    34: (666_433, 666_049),
    70: (2_768_705, 2_767_809),
    142: (6_964_033, 6_962_625),
    286: (11_159_361, 11_157_441),
}


@fields
def test_has_the_parameters_of_the_published_network(field):
    with torch.device("meta"):
        counted = tuple(count(PatchDiscriminator(6, 64, field, norm)) for norm in ("batch", "instance"))
        three = [count(PatchDiscriminator(3, 64, 70, norm)) for norm in ("batch", "instance")]

    assert counted == COUNTS[field]
    assert three == [2_765_633, 2_764_737]


@fields
@pytest.mark.parametrize("padding", [1, 2])
def test_a_logit_sees_a_square_of_field_pixels(field, padding):
    side = 320
    network = PatchDiscriminator(1, 1, field, "none", padding=padding).double()
    for parameter in network.parameters():
        nn.init.ones_(parameter)  # nothing cancels
    image = torch.ones(1, 1, side, side, dtype=torch.double, requires_grad=True)

    logits = network(image)
    middle = logits.shape[2] // 2
    (slope,) = torch.autograd.grad(logits[0, 0, middle, middle], image)
    rows, columns = slope[0, 0].any(1).nonzero().flatten(), slope[0, 0].any(0).nonzero().flatten()

    assert len(rows) == len(columns) == field
    assert rows[-1] - rows[0] == columns[-1] - columns[0] == field - 1
    assert slope[0, 0][rows][:, columns].all()


def test_the_map_of_the_70_is_30x30_at_256_pixels():
    assert PatchDiscriminator(3, 2)(torch.zeros(1, 3, 256, 256)).shape == (1, 1, 30, 30)


@fields
@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("padding", [1, 2])
def test_smallest_is_the_least_side_that_works(field, norm, padding):
    network = PatchDiscriminator(2, 2, field, norm, padding=padding)
    least = network.smallest()

    assert network(torch.zeros(1, 2, least, least)).numel() > 0
    network.check((2, least, least + 3), variant="it")
    with pytest.raises(UserError, match=rf"it with model.field={field} needs images of at least {least} "):
        network.check((2, least, least - 1), variant="it")
    if field > 16 and norm == "instance":
        with pytest.raises((RuntimeError, ValueError)):
            network(torch.zeros(1, 2, least - 1, least - 1))


def test_features_are_those_of_a_plain_recomputation():
    network = PatchDiscriminator(3, 4, 34, "instance").double()
    image = torch.randn(2, 3, 40, 48, dtype=torch.double)

    h: Tensor = image
    expected = []
    for layer, stride in zip(network.layers, (2, 2, 1), strict=True):
        h = F.conv2d(h, layer[0].weight, layer[0].bias, stride, 1)
        if expected:
            mean, var = h.mean((2, 3), keepdim=True), h.var((2, 3), correction=0, keepdim=True)
            h = (h - mean) / (var + 1e-5).sqrt()
        h = torch.where(h > 0, h, 0.2 * h)
        expected.append(h)
    expected.append(F.conv2d(h, network.head.weight, network.head.bias, 1, 1))

    for a, b in zip(network.features(image), expected, strict=True):
        assert torch.allclose(a, b, atol=1e-10)


def test_no_layer_mixes_samples_but_batch_norm():
    images = torch.randn(3, 2, 32, 32)

    for norm, mixes in (("batch", True), ("instance", False), ("none", False)):
        network = PatchDiscriminator(2, 4, 16, norm)
        alone = torch.cat([network(image[None]) for image in images])
        assert torch.allclose(network(images), alone, atol=1e-6) != mixes
