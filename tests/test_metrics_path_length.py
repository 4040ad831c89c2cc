"""Perceptual path length: analytic for linear generators, its trimming, and where it walks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lit_gan.data.toy import Toy
from lit_gan.errors import NonFiniteError, UserError
from lit_gan.metrics import PerceptualPathLength
from lit_gan.metrics.evaluate import evaluate
from lit_gan.metrics.gallery import Gallery
from lit_gan.metrics.path_length import EPSILON, slerp
from lit_gan.sampling import inference, latents, sampling_batch
from metrics_helpers import Fake, SquaredDistance, noise
from tiny import tiny_module

DATA = noise(40)
PAIRS = 150


class Linear(Fake):
    """Images z A, in z."""

    def generate(self, batch: dict[str, Tensor]) -> Tensor:
        return (batch["z"] @ self.weight).unflatten(1, self.shape)


class Styled(Linear):
    """Images w A of w = 2 z, drawn towards 0 by the truncation."""

    truncates = True

    def styles(self, batch: dict[str, Tensor]) -> Tensor:
        return 2 * batch["z"] * batch.get("truncation", torch.tensor(1.0))

    def synthesise(self, w: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return (w @ self.weight).unflatten(1, self.shape)


def score(module: nn.Module, **how: Any) -> Any:
    settings = {"metrics": ["ppl"], "extractor": None, "lpips": SquaredDistance(), "fakes": PAIRS, **how}
    return evaluate(module, DATA, **settings)["ppl"]


def trimmed(lengths: np.ndarray) -> float:
    low, high = np.percentile(lengths, 1, method="lower"), np.percentile(lengths, 99, method="higher")
    return float(lengths[(lengths >= low) & (lengths <= high)].mean())


def ends(count: int = PAIRS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    z = latents(seed, range(2 * count), 6).double().numpy()
    return z[::2], z[1::2]


def test_in_w_the_length_of_a_linear_generator_is_the_distance_of_its_ends():
    module = Styled()
    a, b = ends()
    lengths = (2 * (b - a) @ module.weight.detach().double().numpy()).__pow__(2).sum(1)

    found = score(module)

    assert found.value == pytest.approx(trimmed(lengths), rel=1e-3)
    assert (
        found.protocol.settings
        == "path in w, epsilon=0.0001 at the ends, area to at most 256, 1% trimmed at either end"
    )
    assert (found.protocol.extractor, found.protocol.reals, found.floor) == ("squared", 0, None)
    assert score(module, truncation=0.5).value == pytest.approx(found.value / 4, rel=1e-3)


def test_in_z_it_is_the_speed_of_the_arc():
    module = Linear()
    a, b = ends(seed=3)
    angle = np.arccos((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))[:, None]
    speed = angle / np.sin(angle) * (b - np.cos(angle) * a)  # the derivative at the start
    lengths = (speed @ module.weight.detach().double().numpy()).__pow__(2).sum(1)

    found = score(module, seed=3)

    assert found.value == pytest.approx(trimmed(lengths), rel=2e-3)
    assert found.protocol.settings.startswith("path in z, ")


def test_a_rougher_generator_has_the_larger_value_and_lower_is_better():
    smooth, rough = Styled(), Styled()
    rough.weight.data *= 3

    assert score(rough).value == pytest.approx(9 * score(smooth).value, rel=1e-3)
    assert PerceptualPathLength.higher_is_better is False


@pytest.mark.parametrize("count", [2, 50, 101, 1000])
def test_the_lowest_and_the_highest_hundredth_are_left_out(count):
    lengths = torch.randn(count, generator=torch.Generator().manual_seed(0), dtype=torch.float64).exp()
    metric = PerceptualPathLength(lambda a, b: (a - b).flatten(1).sum(1), epsilon=1.0)
    for part in lengths.split(37):
        metric.update(part.view(-1, 1, 1, 1), torch.zeros(len(part), 1, 1, 1))
    metric.update(torch.zeros(0, 1, 1, 1), torch.zeros(0, 1, 1, 1))

    assert float(metric.compute()) == pytest.approx(trimmed(lengths.float().double().numpy()), rel=1e-6)


def test_its_error_is_the_spread_over_seeds():
    module = Styled()
    found = [score(module, seed=seed, fakes=200) for seed in range(40)]

    spread = np.std([each.value for each in found], ddof=1)

    assert np.mean([each.error for each in found]) == pytest.approx(spread, rel=0.3)


def test_images_are_averaged_down_to_256_pixels():
    seen = []

    def distance(near: Tensor, far: Tensor) -> Tensor:
        seen.append(near)
        return torch.zeros(len(near))

    stripes = torch.tensor([1.0, -1.0]).repeat(256).expand(1, 1, 256, 512)
    PerceptualPathLength(distance).update(stripes, stripes)
    PerceptualPathLength(distance).update(stripes[..., :256], stripes[..., :256])

    assert [tuple(images.shape) for images in seen] == [(1, 1, 256, 256)] * 2
    assert seen[0].abs().max() == 0
    assert seen[1].abs().min() == 1


def test_the_arc_keeps_length_and_direction():
    a = torch.tensor([[3.0, 0.0], [1.0, 1.0], [2.0, 0.0]])
    b = torch.tensor([[0.0, 3.0], [2.0, 2.0], [-2.0, 0.0]])

    assert torch.equal(slerp(a, b, 0.0), a)
    torch.testing.assert_close(slerp(a, b, 1 / 3)[0], torch.tensor([3 * 0.75**0.5, 1.5]))
    assert torch.equal(slerp(a, b, 0.25)[1:], torch.tensor([[1.25, 1.25], [1.0, 0.0]])), "no arc: straight"


def test_stylegan_synthesises_what_it_generates():
    module = tiny_module("stylegan-lite", "model.conditional=true")
    module.ema.network.w_mean.normal_()
    batch = sampling_batch(module, 1, range(5), 10, truncation=0.7)

    with inference(module):
        w = module.styles(batch)
        images = module.synthesise(w, batch)
        expected = module.generate(batch)
        plain = module.styles({key: batch[key] for key in ("z", "label")})

    assert w.shape == (5, len(module.ema.network.w_mean))
    assert torch.equal(images.clamp(-1, 1), expected)
    torch.testing.assert_close(w, torch.lerp(module.ema.network.w_mean, plain, 0.7))


def test_stylegan_walks_in_w_and_others_in_z():
    data = noise(40, (1, 16, 16))
    for arch, space in (("stylegan-lite", "w"), ("dcgan", "z")):
        module = tiny_module(arch)
        how = {"metrics": ["ppl"], "extractor": None, "lpips": SquaredDistance(), "fakes": 12}
        modes = [part.training for part in module.modules()]
        first = evaluate(module, data, batch_size=4, **how)["ppl"]

        assert first.protocol.settings.startswith(f"path in {space}, ")
        assert first.value > 0
        assert first.value == pytest.approx(
            evaluate(module, data, batch_size=7, **how)["ppl"].value, rel=1e-2
        )
        assert [part.training for part in module.modules()] == modes


def test_both_ends_have_one_label():
    seen = []

    class Labelled(Linear):
        def generate(self, batch: dict[str, Tensor]) -> Tensor:
            seen.append(batch["label"])
            return super().generate(batch)

    score(Labelled(), fakes=30, batch_size=20)

    assert [len(label) for label in seen] == [20, 20, 20]
    for label in seen:
        near, far = label.chunk(2)
        assert torch.equal(near, far)
    assert len(torch.cat(seen).unique()) == 3


def test_images_and_broken_generators_have_no_path_length():
    toy = Toy(count=100)
    toy.prepare()
    broken = Styled()
    broken.weight.data[0] = torch.nan

    with pytest.raises(UserError, match="'ppl' walks through the latents of a generator, and there are none"):
        score(Gallery(DATA), fakes=4)
    with pytest.raises(NonFiniteError, match="300 of 300 images"):
        score(broken)
    assert EPSILON == 1e-4
