"""Degradations of Real-ESRGAN: kernels by their moments and spectra, JPEG against Pillow, draws by the generator alone."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from lit_gan.blur import bell, filtered, sharpened, sinc
from lit_gan.degradation import (
    BELL_SHARES,
    NONE,
    REAL_ESRGAN,
    Draws,
    Stage,
    degrade,
    drawn_factor,
    drawn_kernel,
    noisy,
)
from lit_gan.jpeg import compressed


def pictures(count: int = 2, side: int = 64, seed: int = 0, channels: int = 3) -> Tensor:
    """Smooth images in whole levels, [N, C, side, side] in [0, 1]."""
    coarse = torch.rand(count, channels, 6, 6, generator=torch.Generator().manual_seed(seed))
    return (F.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1) * 255).round() / 255


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def covariance(kernel: Tensor) -> Tensor:
    at = torch.arange(len(kernel), dtype=torch.float64) - len(kernel) // 2
    y, x = torch.meshgrid(at, at, indexing="ij")
    return torch.stack([torch.stack([(kernel * a * b).sum() for b in (x, y)]) for a in (x, y)])


@pytest.mark.parametrize("angle", [0.0, 0.7, -2.0])
def test_a_bell_has_the_covariance_that_was_asked_for(angle):
    turn = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64
    )
    expected = turn @ torch.diag(torch.tensor([2.5**2, 1.2**2], dtype=torch.float64)) @ turn.T

    assert torch.allclose(covariance(bell(31, 2.5, 1.2, angle)), expected, atol=1e-3)


def test_the_generalized_bell_of_beta_one_is_gaussian_and_the_plateau_is_flat_in_the_middle():
    gaussian = bell(21, 2.0, 1.5, 0.3)

    assert torch.allclose(bell(21, 2.0, 1.5, 0.3, shape="generalized", beta=1.0), gaussian)
    plateau = bell(21, 3.0, 3.0, shape="plateau", beta=2.0)
    assert plateau[10, 13] / plateau[10, 10] == pytest.approx(0.5)  # q = 1
    assert plateau[10, 11] / plateau[10, 10] == pytest.approx(1 / (1 + 3.0**-4))


def test_a_sinc_kernel_passes_what_is_below_its_cutoff_and_nothing_above():
    kernel = sinc(101, math.pi / 3)
    at = torch.arange(101, dtype=torch.float64) - 50

    def response(frequency: float) -> float:
        return float((kernel * torch.cos(frequency * at)[None, :]).sum())

    assert response(0.0) == pytest.approx(1)
    assert response(math.pi / 6) == pytest.approx(1, abs=0.05)
    assert response(math.pi / 3) == pytest.approx(0.5, abs=0.1)
    assert response(math.pi / 2) == pytest.approx(0, abs=0.05)


def test_drawn_kernels_sum_to_one_and_come_in_all_kinds_and_sizes():
    generator = seeded()
    rows = torch.rand(400, 16, generator=generator, dtype=torch.float64).tolist()
    kernels = [drawn_kernel(Stage(), Draws(row)) for row in rows]

    assert all(float(kernel.sum()) == pytest.approx(1) for kernel in kernels)
    assert {len(kernel) for kernel in kernels} == set(range(7, 22, 2))
    assert 0.05 < sum(float(kernel.min()) < -1e-4 for kernel in kernels) / 400 < 0.15, "a tenth rings"
    assert sum(BELL_SHARES) == pytest.approx(1)


def test_sizes_follow_their_shares_and_ranges():
    rows = torch.rand(2000, 4, generator=seeded(), dtype=torch.float64).tolist()
    factors = np.array([drawn_factor(Stage(), Draws(row)) for row in rows])

    assert (factors > 1).mean() == pytest.approx(0.2, abs=0.03)
    assert (factors < 1).mean() == pytest.approx(0.7, abs=0.03)
    assert 0.15 <= factors.min() < 0.16
    assert 1.49 < factors.max() <= 1.5


def test_at_strength_zero_it_is_bicubic_with_antialias():
    images = pictures(side=60)

    made = degrade(images, 4, seeded(), NONE)

    expected = F.interpolate(images, (15, 15), mode="bicubic", antialias=True).clamp(0, 1)
    assert (made - expected).abs().max() <= 0.5 / 255 + 1e-6
    pillow = np.asarray(Image.fromarray((images[0, 0] * 255).byte().numpy()).resize((15, 15), Image.BICUBIC))
    assert np.abs(made[0, 0].numpy() * 255 - pillow).max() <= 1.01


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_are_a_function_of_the_generator_alone(scale, channels):
    images = pictures(3, side=40, channels=channels)
    before = torch.get_rng_state()

    one, again, other = (degrade(images, scale, seeded(seed)) for seed in (0, 0, 1))

    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(before, torch.get_rng_state())
    assert one.shape == (3, channels, 40 // scale, 40 // scale)
    assert 0 <= one.min() <= one.max() <= 1
    assert torch.allclose(one * 255, (one * 255).round(), atol=1e-4)


def test_each_image_of_a_batch_has_a_degradation_of_its_own():
    images = pictures(1, side=48).expand(6, -1, -1, -1)

    made = degrade(images, 2, seeded())

    assert all(not torch.equal(made[i], made[j]) for i in range(6) for j in range(i))


def test_small_images_and_odd_sides_are_degraded_too():
    for seed in range(12):
        made = degrade(torch.rand(1, 3, 21, 33, generator=seeded(seed)), 4, seeded(seed))
        assert made.shape == (1, 3, 5, 8)
        assert made.isfinite().all()


@pytest.mark.parametrize("quality", [30, 60, 95])
@pytest.mark.parametrize(("channels", "size"), [(3, (48, 64)), (3, (37, 51)), (1, (40, 29))])
def test_jpeg_is_pillows_within_a_few_grey_levels(quality, channels, size):
    noise = torch.randn(1, channels, *size, generator=seeded(3)) * 0.03
    image = (F.interpolate(pictures(1, channels=channels), size, mode="bilinear") + noise).clamp(0, 1)
    image = (image * 255).round() / 255
    pixels = (image[0] * 255).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, "JPEG", quality=quality)
    pillow = np.asarray(Image.open(file)).reshape(*size, channels).astype(float)

    made = compressed(image, torch.tensor([quality]))[0].permute(1, 2, 0).numpy() * 255

    lost = np.abs(pillow - pixels).mean()
    assert np.abs(made - pillow).mean() < min(
        1.3, 0.35 * lost
    )  # its arithmetic in integers rounds otherwise now and then
    assert np.abs(made - pillow).max() <= 16


def test_jpeg_qualities_are_of_each_image():
    images = pictures(2, channels=1) + 0.1 * torch.randn(2, 1, 64, 64, generator=seeded())

    both = compressed(images, torch.tensor([30.0, 95.0]))

    for i, quality in enumerate((30.0, 95.0)):
        assert torch.equal(both[i : i + 1], compressed(images[i : i + 1], torch.tensor([quality])))
    error = (both - images.clamp(0, 1)).abs().mean((1, 2, 3))
    assert error[0] > 2 * error[1]


@pytest.mark.parametrize("grey", [0.0, 1.0])
def test_noise_has_the_deviation_that_was_asked_for(grey):
    image = torch.full((1, 3, 200, 200), 100 / 255)
    gaussian = Stage(gaussian=1.0, grey=grey, gaussian_sigma=(10.0, 10.0))
    poisson = Stage(gaussian=0.0, grey=grey, poisson_scale=(0.5, 0.5))

    added = noisy(image, gaussian, Draws([0.5] * 8), seeded()) - image
    assert float(added.std()) * 255 == pytest.approx(10, rel=0.02)
    assert torch.allclose(added[:, 0], added[:, 1]) == bool(grey)

    ramp = torch.linspace(0.2, 0.6, 100).expand(1, 3, 200, 100)  # some hundred levels: 128 photons
    added = noisy(ramp, poisson, Draws([0.5] * 8), seeded()) - ramp
    assert float(added.mean()) == pytest.approx(0, abs=1e-3)
    photons = 2 ** math.ceil(math.log2(len((ramp * 255).round().unique())))
    column = added[0, 0, :, 90] if grey else added[0, :, :, 90].flatten()
    level = round(float(ramp[0, 0, 0, 90]) * 255) / 255
    assert float(column.std()) == pytest.approx(0.5 * math.sqrt(level / photons), rel=0.2)


def test_sharpening_steepens_edges_and_leaves_flat_parts_alone():
    image = torch.full((1, 1, 120, 120), 0.3)
    image[..., 60:] = 0.7

    sharp = sharpened(image)

    assert sharp[0, 0, 60, 60] > 0.75
    assert sharp[0, 0, 60, 59] < 0.25
    assert torch.allclose(sharp[..., :10], image[..., :10], atol=1e-3)
    assert torch.allclose(sharpened(image[..., :50]), image[..., :50])


def test_filtering_by_a_shifted_point_moves_the_image():
    image = pictures(1)
    kernel = torch.zeros(7, 7, dtype=torch.float64)
    kernel[3, 5] = 1

    assert torch.allclose(filtered(image, kernel)[..., :-2], image[..., 2:])


def test_the_defaults_are_the_papers():
    assert (REAL_ESRGAN.first.gaussian_sigma, REAL_ESRGAN.second.gaussian_sigma) == ((1, 30), (1, 25))
    assert (REAL_ESRGAN.first.factor, REAL_ESRGAN.second.factor) == ((0.15, 1.5), (0.3, 1.2))
