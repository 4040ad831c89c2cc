"""Spectral norm, self-attention, conditional norms and the projection, against plain recomputation in float64."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

import processes
from lit_gan.ema import EMA
from lit_gan.networks.norm import LinearNorm
from lit_gan.networks.residual import Conv, DownConv, UpConv
from lit_gan.networks.resnet import Discriminator, discriminator_widths, generator_widths
from lit_gan.networks.self_attention import SelfAttention, place_of
from lit_gan.networks.shape import pyramid
from lit_gan.networks.spectral import Embedding, Linear, SpectralNorm, normalised_matrices
from lit_gan.strategy import FlatReduceStrategy

LAYERS: dict[str, Any] = {
    "conv": lambda: Conv(5, 7, 3, spectral=True),
    "1x1": lambda: Conv(5, 7, 1, spectral=True),
    "up": lambda: UpConv(5, 7, spectral=True),
    "down": lambda: DownConv(5, 7, spectral=True),
    "linear": lambda: Linear(5, 7, spectral=True),
    "embedding": lambda: Embedding(7, 5, spectral=True),
}
layer = pytest.mark.parametrize("name", LAYERS)


def plain_matrix(module: nn.Module, weight: Tensor) -> Tensor:
    """[7, fan_in] in float64: a row for each output, or class."""
    rows = weight.transpose(0, 1) if isinstance(module, nn.ConvTranspose2d) else weight
    return rows.detach().double().reshape(7, -1)


@layer
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])
def test_largest_singular_value_is_one_by_svd(name: str, layout: torch.memory_format) -> None:
    module = LAYERS[name]()
    if module.weight.ndim == 4:
        module = module.to(memory_format=layout)
    with torch.no_grad():
        for _ in range(300):
            normal = module.spectral(module.weight)

    assert torch.linalg.svdvals(plain_matrix(module, normal))[0].item() == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(
        module.spectral.u.double().abs(),
        torch.linalg.svd(plain_matrix(module, module.weight)).U[:, 0].abs(),
        atol=1e-3,
        rtol=0,
    )


@layer
def test_a_pass_is_one_step_of_the_power_iteration_and_its_gradient_keeps_the_vectors(name: str) -> None:
    module = LAYERS[name]()
    w, u = plain_matrix(module, module.weight), module.spectral.u.double()
    v = w.t() @ u / (w.t() @ u).norm()
    u = w @ v / (w @ v).norm()
    sigma = u @ w @ v
    at_output = torch.randn_like(module.weight)

    normal = module.spectral(module.weight)
    (normal * at_output).sum().backward()

    c = plain_matrix(module, at_output)
    expected = (c - ((w / sigma) * c).sum() * torch.outer(u, v)) / sigma  # equation 12 of the paper
    torch.testing.assert_close(plain_matrix(module, normal), w / sigma, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(plain_matrix(module, module.weight.grad), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(module.spectral.u.double(), u, rtol=1e-5, atol=1e-5)


def test_u_moves_once_in_every_training_pass_and_not_in_inference() -> None:
    module = Linear(5, 7, spectral=True)
    inputs, before = torch.randn(2, 5), module.spectral.u.clone()
    with torch.no_grad():
        expected = SpectralNorm(7)
        expected.u.copy_(before)
        for _ in range(2):
            expected(module.weight)

    module.eval()
    module(inputs)
    assert torch.equal(module.spectral.u, before)
    module.train()
    module(inputs)
    with torch.no_grad():
        module(inputs)
    assert torch.equal(module.spectral.u, expected.u)


def discriminator(num_classes: int = 3) -> Discriminator:
    base = pyramid((2, 16, 16), variant="x")
    return Discriminator(base, 2, [8, 8, 8], 1, num_classes, attention=8)


@pytest.mark.parametrize("compiled", [False, True])
def test_two_passes_before_one_backward_give_the_gradient_of_their_sum(compiled: bool) -> None:
    torch.manual_seed(0)
    network = discriminator()
    images, label = torch.randn(2, 4, 2, 16, 16), torch.tensor([0, 1, 2, 0])
    expected = [torch.zeros_like(p) for p in network.parameters()]
    apart = copy.deepcopy(network)
    for batch in images:
        for total, gradient in zip(
            expected, torch.autograd.grad(apart(batch, label).sum(), list(apart.parameters())), strict=True
        ):
            total += gradient
    if compiled:
        network.compile(backend="aot_eager")

    first, second = (network(batch, label) for batch in images)
    (first.sum() + second.sum()).backward()

    for p, gradient in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-4, atol=1e-5)
    for (key, value), other in zip(network.state_dict().items(), apart.state_dict().values(), strict=True):
        torch.testing.assert_close(value, other, msg=key)


def test_a_gradient_penalty_differentiates_through_the_norm() -> None:
    torch.manual_seed(0)
    network, label = discriminator().double(), torch.tensor([0, 1])
    nn.init.ones_(network.attention.gamma)
    images = torch.randn(2, 2, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        for part in network.modules():
            for _ in range(500 if isinstance(getattr(part, "spectral", None), SpectralNorm) else 0):
                part.spectral(part.weight)  # the gradient is right where the vectors have converged
    network.eval()

    def penalty() -> Tensor:
        x = images.clone().requires_grad_()
        h = images.new_zeros(())  # float64 all along: the network's own head is in float32
        for i, block in enumerate(network.blocks):
            h = block(x if i == 0 else h)
            if i == network.place:
                h = network.attention(h)
        h = F.relu(h).sum((2, 3))
        logits = network.head(h).squeeze(1) + (network.embed(label) * h).sum(1)
        (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)  # squared_norm is in float32
        return gradient.square().sum((1, 2, 3)).mean()

    weights = [network.blocks[1].conv1.weight, network.attention.query.weight, network.head.weight]
    gradients = torch.autograd.grad(penalty(), weights)
    for weight, gradient in zip(weights, gradients, strict=True):
        direction = torch.randn_like(weight)
        step = 1e-7 * direction  # so small that no ReLU changes sides: a jump of the slope
        with torch.no_grad():
            ends = []
            for sign in (1, -2):
                weight += sign * step
                with torch.enable_grad():
                    ends.append(penalty().item())
            weight += step
        slope = (ends[0] - ends[1]) / 2e-7
        assert slope == pytest.approx((gradient * direction).sum().item(), rel=1e-3)


def test_average_is_of_the_raw_weight_and_copies_u() -> None:
    module = Linear(5, 7, spectral=True)
    before = module.weight.detach().clone()
    ema = EMA(module)
    with torch.no_grad():
        module.weight.mul_(3)
        module(torch.randn(2, 5))

    ema.update(module, images=1, half_life=1.0)

    torch.testing.assert_close(ema.network.weight, 2 * before)
    assert torch.equal(ema.network.spectral.u, module.spectral.u)
    assert list(module.state_dict()) == ["weight", "bias", "spectral.u"]


def test_norm_is_in_float32_under_autocast() -> None:
    module, other = Linear(50, 70, spectral=True), Linear(50, 70, spectral=True)
    other.load_state_dict(module.state_dict())
    exact = module.spectral(module.weight)

    with torch.autocast("cpu", torch.bfloat16):
        rounded = other.spectral(other.weight)

    assert torch.equal(exact, rounded)


def _reduced(rank: int) -> None:
    dist.init_process_group("gloo", rank=rank, world_size=2)
    torch.manual_seed(0)  # as Lightning's launch leaves them: equal parameters and buffers
    network, strategy = discriminator(), SimpleNamespace(world_size=2)
    torch.manual_seed(rank)
    for _ in range(3):
        network(torch.randn(4, 2, 16, 16), torch.tensor([0, 1, 2, rank]))  # images of its own
        mine = {key: value.clone() for key, value in network.named_buffers()}
        FlatReduceStrategy.reduce_buffers(strategy, network)  # type: ignore[arg-type]
        for key, value in network.named_buffers():
            assert torch.equal(value, mine[key]), key
            assert value.norm().item() == pytest.approx(1, abs=1e-6)


def test_vectors_are_equal_on_all_ranks_so_that_their_mean_is_one_of_them() -> None:
    processes.on_ranks(2, _reduced)


def test_normalised_matrices_are_those_of_all_layers_with_the_norm() -> None:
    network = nn.Sequential(Linear(3, 4), *(make() for make in LAYERS.values()))

    shapes = [tuple(matrix.shape) for matrix in normalised_matrices(network)]

    assert shapes == [(7, 45), (7, 5), (7, 45), (7, 45), (7, 5), (7, 5)]


# -- self-attention -----------------------------------------------------------------------------------------


def test_attention_is_the_identity_before_training() -> None:
    inputs = torch.randn(2, 16, 6, 4)

    assert torch.equal(SelfAttention(16)(inputs), inputs)


def test_attention_equals_a_weighted_sum_at_every_place() -> None:
    attention = SelfAttention(16).double().eval()
    nn.init.constant_(attention.gamma, 0.7)
    inputs = torch.randn(2, 16, 6, 4, dtype=torch.float64)
    weights = [
        conv.spectral(conv.weight).squeeze(3).squeeze(2).detach()
        for conv in (attention.query, attention.key, attention.value, attention.out)
    ]
    theta, phi, g, out = weights

    expected = torch.empty_like(inputs)
    for image, result in zip(inputs, expected, strict=True):
        keys = F.max_pool2d(torch.einsum("oc,chw->ohw", phi, image), 2).flatten(1).t()  # [6, 2]
        values = F.max_pool2d(torch.einsum("oc,chw->ohw", g, image), 2).flatten(1).t()  # [6, 8]
        for i in range(6):
            for j in range(4):
                scores = (keys @ (theta @ image[:, i, j])).exp()
                o = out @ ((scores / scores.sum()) @ values)
                result[:, i, j] = image[:, i, j] + 0.7 * o

    torch.testing.assert_close(attention(inputs), expected)


@pytest.mark.parametrize(
    ("attention", "sides", "expected"),
    [
        (0, [8, 16, 32], None),
        (16, [8, 16, 32], 1),
        (64, [8, 16, 32], 2),
        (8, [16, 8, 8], 1),
        (4, [14, 14], 0),
    ],
)
def test_attention_stands_where_maps_are_as_large_as_asked(
    attention: int, sides: list[int], expected: int | None
) -> None:
    assert place_of(attention, sides) == expected


# -- norms and networks -------------------------------------------------------------------------------------


def test_linear_norm_scales_by_one_plus_a_linear_function_of_the_condition() -> None:
    norm, inputs, condition = LinearNorm(3, 5), torch.randn(4, 3, 6, 6), torch.randn(4, 5)
    for linear in (norm.gain, norm.shift):
        linear.eval()  # batch norm trains, and u stands
    plain = F.batch_norm(inputs, None, None, training=True).double()
    gain, shift = (linear.spectral(linear.weight).double() for linear in (norm.gain, norm.shift))

    found = norm(inputs, condition)

    expected = plain * (1 + condition.double() @ gain.t())[:, :, None, None]
    expected += (condition.double() @ shift.t())[:, :, None, None]
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


def test_projection_adds_the_product_of_the_features_with_the_classs_embedding() -> None:
    network = discriminator().eval()
    features: list[Tensor] = []
    network.head.register_forward_pre_hook(lambda _, args: features.append(args[0]))
    images, label = torch.randn(4, 2, 16, 16), torch.tensor([0, 1, 2, 0])

    logits = network(images, label)

    h = features[0].double()
    w = network.head.spectral(network.head.weight).double()
    e = network.embed.spectral(network.embed.weight).double()
    assert h.shape == (4, 8)
    expected = (h @ w.t()).squeeze(1) + network.head.bias.double() + (h * e[label]).sum(1)
    torch.testing.assert_close(logits.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "g", "d", "halving", "last"),
    [
        ((32, 32), [256] * 4, [128] * 4, 2, (8, 8)),
        ((28, 28), [256] * 3, [128] * 3, 1, (14, 14)),
        ((48, 48), [512, 256, 128, 64], [64, 128, 256, 512, 1024], 4, (3, 3)),
        ((64, 64), [1024, 512, 256, 128, 64], [64, 128, 256, 512, 1024], 4, (4, 4)),
        ((128, 64), [1024, 512, 256, 128, 64], [64, 128, 256, 512, 1024], 4, (8, 4)),
        ((128, 128), [1024, 1024, 512, 256, 128, 64], [64, 128, 256, 512, 1024, 1024], 5, (4, 4)),
    ],
)
def test_widths_follow_the_papers_tables_at_any_size(
    size: tuple[int, int], g: list[int], d: list[int], halving: int, last: tuple[int, int]
) -> None:
    base = pyramid((3, *size), variant="x")

    assert generator_widths(base, None, 1024) == g
    assert discriminator_widths(base, None, 1024) == (d, halving)
    assert tuple(side >> halving for side in size) == last
