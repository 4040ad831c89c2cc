"""Every transform: nothing at p = 0, the paper's distribution at p = 1, its geometry recomputed plainly in float64."""

from __future__ import annotations

from math import pi, sqrt

import numpy as np
import pytest
import torch
from torch import Tensor

from lit_gan.augment import ada, color, corrupt, diffaugment, geometry
from lit_gan.augment.ada import ADA
from lit_gan.augment.diffaugment import DiffAugment

CPU = torch.device("cpu")
MANY = 4000
WHOLE = dict.fromkeys(ada.GROUPS, 1.0)
PIPELINES = [ADA(WHOLE), DiffAugment(dict.fromkeys(diffaugment.GROUPS, 1.0))]
pipelines = pytest.mark.parametrize("pipeline", PIPELINES, ids=["ada", "diffaugment"])


def images(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(shape, dtype=dtype) * 2 - 1


@pipelines
@pytest.mark.parametrize("p", [0.0, torch.tensor(0.0)], ids=["number", "adapted"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_probability_zero_is_the_identity_bit_for_bit(pipeline, p, channels):
    real = images(4, channels, 9, 7)

    assert torch.equal(pipeline.draw(real.shape, p, CPU)(real), real)


@pipelines
@pytest.mark.parametrize("channels", [1, 3, 4, 5])
def test_gradient_and_second_gradient_are_those_of_finite_differences(pipeline, channels):
    real = images(2, channels, 4, 3, dtype=torch.float64).requires_grad_()
    transform = pipeline.draw(real.shape, 1.0, CPU)

    assert torch.autograd.gradcheck(transform, (real,))
    assert torch.autograd.gradgradcheck(lambda x: transform(x).pow(3), (real,))


@pipelines
def test_one_draw_does_the_same_to_every_batch_and_another_draw_does_not(pipeline):
    real = images(4, 3, 16, 16)
    transform = pipeline.draw(real.shape, 1.0, CPU)

    assert torch.equal(transform(real), transform(real))
    assert not torch.equal(transform(real), pipeline.draw(real.shape, 1.0, CPU)(real))
    assert not torch.equal(transform(real), real)


@pipelines
def test_each_sample_has_parameters_of_its_own(pipeline):
    real = images(1, 3, 16, 16).expand(6, -1, -1, -1)
    seen = pipeline.draw(real.shape, 1.0, CPU)(real)

    assert len({row.numpy().tobytes() for row in seen}) == 6


@pipelines
def test_precision_around_it_does_not_blur_the_images(pipeline):
    real = images(4, 3, 32, 32)
    torch.manual_seed(1)
    exact = pipeline.draw(real.shape, 1.0, CPU)(real)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        around = pipeline.draw(real.shape, 1.0, CPU)(real)

    assert around.dtype == torch.float32
    assert torch.equal(around, exact)


@pytest.mark.parametrize("size", [(1, 1), (1, 8), (2, 3), (40, 24)])
def test_works_on_images_of_any_size(size):
    real = images(8, 3, *size)

    assert ADA(WHOLE).draw(real.shape, 1.0, CPU)(real).isfinite().all()


# -- geometry -----------------------------------------------------------------------------------------------------------


def copies(image: Tensor, inverse: Tensor) -> Tensor:
    return geometry.copied(image, geometry.pixel_index(inverse, *image.shape[2:]))


def one(value: float) -> Tensor:
    return torch.tensor([float(value)])


def test_flip_turn_and_shift_copy_pixels():
    square, oblong = images(1, 2, 8, 8), images(1, 2, 6, 9)

    for image in (square, oblong):
        assert torch.equal(copies(image, geometry.scaled(one(-1), one(1))), image.flip(3))
        moved = copies(image, geometry.moved(one(-3), one(2)))
        assert torch.equal(moved[..., :4, 3:], image[..., 2:6, : image.shape[3] - 3])
        padded = np.pad(image.numpy(), ((0, 0), (0, 0), (0, 2), (3, 0)), "symmetric")
        assert np.array_equal(moved.numpy(), padded[..., 2:, : image.shape[3]])
    for turns in range(4):
        inverse = geometry.turned(one(-turns * pi / 2)).round()
        assert torch.equal(copies(square, inverse), square.rot90(-turns, (2, 3)))
        assert copies(oblong, inverse).shape == oblong.shape


def test_oblong_image_turned_by_90_degrees_shows_its_middle_as_a_square_one_would():
    oblong = images(1, 1, 8, 12)
    turned = copies(oblong, geometry.turned(one(pi / 2)).round())

    assert torch.equal(turned[..., 2:10], oblong[..., 2:10].rot90(1, (2, 3)))


def test_blitting_has_the_distribution_of_the_paper():
    inverse = geometry.blit(MANY, 1.0, 64, 32, CPU)
    linear, shift = inverse[:, :2, :2], torch.linalg.inv(inverse)[:, :2, 2]
    upright = linear @ torch.diag_embed(torch.stack([torch.linalg.det(linear), torch.ones(MANY)], 1))

    assert torch.linalg.det(linear).lt(0).float().mean() == pytest.approx(0.5, abs=0.03)
    quarter = torch.atan2(upright[:, 1, 0], upright[:, 0, 0]).div(pi / 2).round().long() % 4
    assert quarter.bincount().div(MANY).tolist() == pytest.approx([0.25] * 4, abs=0.03)
    assert shift.equal(shift.round())
    assert shift.abs().amax(0).tolist() == [4, 8]  # an eighth of 32 and of 64
    assert shift.std(0).tolist() == pytest.approx([8 / sqrt(12), 16 / sqrt(12)], rel=0.05)


def test_each_blit_acts_with_its_own_probability():
    inverse = geometry.blit(MANY, torch.tensor(0.3), 64, 64, CPU)

    flipped = torch.linalg.det(inverse).lt(0).float().mean()
    turned = inverse[:, 0, 0].eq(0).float().mean()
    still = torch.linalg.inv(inverse)[:, :2, 2].eq(0).all(1).float().mean()
    assert flipped == pytest.approx(0.3 / 2, abs=0.03)
    assert turned == pytest.approx(0.3 / 2, abs=0.03)  # by 90 or by 270 degrees
    assert still == pytest.approx(0.7, abs=0.03)


def test_general_geometry_has_the_distribution_of_the_paper():
    inverse, changed = geometry.general(MANY, 1.0, 100, 50, CPU)
    forward = torch.linalg.inv(inverse)
    stretch = torch.linalg.svdvals(forward[:, :2, :2]).log2()  # the scale, times and over the anisotropy

    assert changed.all()
    scale, anisotropy = stretch.mean(1), (stretch[:, 0] - stretch[:, 1]) / 2
    assert scale.mean() == pytest.approx(0, abs=0.02)
    assert scale.std() == pytest.approx(0.2, rel=0.05)
    assert anisotropy.square().mean().sqrt() == pytest.approx(0.2, rel=0.05)
    angle = torch.atan2(forward[:, 1, 0], forward[:, 0, 0])
    assert angle.histc(4, -pi, pi).div(MANY).tolist() == pytest.approx([0.25] * 4, abs=0.03)
    assert forward[:, :2, 2].std(0).tolist() == pytest.approx([50 / 8, 100 / 8], rel=0.05)


def test_one_of_both_rotations_acts_with_probability_p():
    p = 0.4
    inverse, changed = geometry.general(MANY, p, 32, 32, CPU)

    turned = inverse[:, :2, :2].diagonal(offset=1, dim1=1, dim2=2).abs().gt(1e-4).float().mean()
    assert turned == pytest.approx(p, abs=0.03)
    assert changed.float().mean() == pytest.approx(1 - (1 - p) ** 4, abs=0.03)
    assert torch.equal(inverse[~changed], torch.eye(3).expand(int((~changed).sum()), 3, 3))


def test_sym6_is_orthonormal_with_six_vanishing_moments():
    h = np.array(geometry.SYM6)
    high = h * (-1.0) ** np.arange(12)

    assert h.sum() == pytest.approx(sqrt(2), abs=1e-11)
    for lag in range(6):
        assert (h[2 * lag :] * h[: 12 - 2 * lag]).sum() == pytest.approx(float(lag == 0), abs=1e-11)
    for moment in range(6):
        assert (high * (np.arange(12) - 5.5) ** moment).sum() == pytest.approx(0, abs=1e-9)


def plainly_warped(image: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """One channel [H, W], step by step: insert zeros, filter, look up, filter, take every second pixel."""
    h, margin = np.array(geometry.SYM6), 12
    centre = (h * np.arange(12)).sum() / sqrt(
        2
    )  # of the filter: doubled pixel n lies at (n + 5 - centre) / 2

    def mirror(n: int, size: int) -> int:
        return n % (2 * size) if n % (2 * size) < size else 2 * size - 1 - n % (2 * size)

    def up(row: np.ndarray) -> np.ndarray:
        spread = np.zeros(2 * (len(row) + 2 * margin))
        spread[::2] = np.pad(row, margin, "symmetric")
        return sqrt(2) * np.convolve(spread, h)[2 * margin + 5 :][: 2 * len(row)]

    large = np.apply_along_axis(up, 0, np.apply_along_axis(up, 1, image))
    (height, width), (tall, wide) = image.shape, large.shape
    seen = np.zeros((tall + 10, wide + 10))
    for i in range(tall + 10):
        for j in range(wide + 10):
            at = [(j - centre) / 2 - (width - 1) / 2, (i - centre) / 2 - (height - 1) / 2, 1]
            x, y, _ = inverse @ at
            column = 2 * (x + (width - 1) / 2) - 5 + centre
            row = 2 * (y + (height - 1) / 2) - 5 + centre
            a, b = int(np.floor(row)), int(np.floor(column))
            for da in (0, 1):
                for db in (0, 1):
                    weight = (1 - abs(row - a - da)) * (1 - abs(column - b - db))
                    seen[i, j] += weight * large[mirror(a + da, tall), mirror(b + db, wide)]

    def down(row: np.ndarray) -> np.ndarray:
        return np.convolve(row, h[::-1], "valid")[::2] / sqrt(2)

    return np.apply_along_axis(down, 0, np.apply_along_axis(down, 1, seen))


def test_warp_is_the_plain_one():
    image = images(2, 1, 7, 10, dtype=torch.float64)
    inverse = geometry.general(2, 1.0, 7, 10, CPU)[0].double()

    warped = geometry.warped(image, inverse)

    for n in range(2):
        assert np.allclose(warped[n, 0].numpy(), plainly_warped(image[n, 0].numpy(), inverse[n].numpy()))


def test_warp_of_a_wave_is_the_wave_where_each_pixel_comes_from():
    size = 64
    at = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    y, x = torch.meshgrid(at, at, indexing="ij")

    def wave(x: Tensor, y: Tensor) -> Tensor:
        return torch.cos(0.25 * x + 0.15 * y + 0.3)

    inverse = (
        geometry.scaled(one(0.8), one(1.1)) @ geometry.turned(one(0.7)) @ geometry.moved(one(3.3), one(-1.6))
    )
    m = inverse[0].double()
    warped = geometry.warped(wave(x, y)[None, None], inverse.double())[0, 0]
    expected = wave(m[0, 0] * x + m[0, 1] * y + m[0, 2], m[1, 0] * x + m[1, 1] * y + m[1, 2])

    middle = slice(22, 42)  # comes from within the image
    assert (warped - expected)[middle, middle].abs().max() < 0.005
    assert (expected - wave(x, y))[middle, middle].abs().max() > 0.5


def test_warp_by_whole_pixels_copies_them():
    image = images(1, 1, 32, 32, dtype=torch.float64)
    inverse = geometry.moved(one(-3), one(2)).double()

    warped = geometry.warped(image, inverse)

    assert torch.allclose(warped[..., 6:20, 10:24], image[..., 8:22, 7:21], atol=1e-10)


# -- colour -------------------------------------------------------------------------------------------------------------


def test_colour_has_the_distribution_of_the_paper():
    matrix, offset, changed = color.color(MANY, 1.0, 3, CPU)
    luma = torch.full((3,), 1 / sqrt(3))
    brightness = torch.linalg.solve(matrix, offset)[:, 0, 0]
    grey = matrix @ luma  # stays grey: contrast, and half of them negative
    contrast = (grey @ luma).abs().log2()

    assert changed.all()
    assert torch.allclose(grey, (grey @ luma)[:, None] * luma, atol=1e-4)
    assert (brightness.mean(), brightness.std()) == pytest.approx((0, 0.2), abs=0.02)
    assert (contrast.mean(), contrast.std()) == pytest.approx((0, 0.5), abs=0.03)
    assert (grey @ luma).lt(0).float().mean() == pytest.approx(0.5, abs=0.03)
    chroma = torch.tensor([1.0, 1, -2]) / sqrt(6)
    across = torch.tensor([1.0, -1, 0]) / sqrt(2)
    tinted = matrix @ chroma
    saturation = tinted.norm(dim=1).log2() - contrast
    assert (saturation.mean(), saturation.std()) == pytest.approx((0, 1), abs=0.06)
    hue = torch.atan2(tinted @ across, tinted @ chroma)
    assert hue.histc(4, -pi, pi).div(MANY).tolist() == pytest.approx([0.25] * 4, abs=0.03)


@pytest.mark.parametrize("channels", [2, 3, 5, 8])
def test_colours_of_other_channel_counts_keep_luma_apart_from_the_rest(channels):
    matrix, _, _ = color.color(500, 1.0, channels, CPU)
    luma = torch.full((channels,), 1 / sqrt(channels))

    contrast = (matrix @ luma) @ luma
    assert torch.allclose(matrix @ luma, contrast[:, None] * luma, atol=1e-4)
    values = torch.linalg.svdvals(matrix) / contrast.abs()[:, None]
    saturation = torch.linalg.det(matrix).abs() / contrast.abs() ** channels
    saturation = saturation ** (1 / (channels - 1))
    expected = torch.cat([torch.ones(500, 1), saturation[:, None].expand(-1, channels - 1)], 1)
    assert torch.allclose(values, expected.sort(1, descending=True)[0], rtol=1e-2)


def test_alpha_keeps_its_values():
    real = images(50, 4, 4, 4)

    for pipeline in (ADA({"color": 1.0}), DiffAugment({"color": 1.0})):
        seen = pipeline.draw(real.shape, 1.0, CPU)(real)
        assert torch.equal(seen[:, 3], real[:, 3])
        assert not torch.isclose(seen[:, :3], real[:, :3]).all(1).any()


# -- filter, noise, cutout ----------------------------------------------------------------------------------------------


def test_bands_sum_to_the_image_and_split_its_frequencies_at_the_octaves():
    bank = corrupt.bank()
    impulse = torch.zeros(bank.shape[1], dtype=torch.float64)
    impulse[bank.shape[1] // 2] = 1

    assert torch.allclose(bank.sum(0), impulse, atol=1e-12)
    assert torch.allclose(bank, bank.flip(1), atol=1e-12)  # zero phase
    at = torch.arange(bank.shape[1], dtype=torch.float64) - bank.shape[1] // 2
    middles = [0.0, 3 * pi / 16, 3 * pi / 8, pi]
    response = torch.stack([(bank * torch.cos(at * w)).sum(1) for w in middles])
    assert response.argmax(1).tolist() == [0, 1, 2, 3]
    assert response.diagonal().min() > 0.7


def test_band_gains_have_the_distribution_of_the_paper():
    gains, changed = corrupt.band_gains(MANY, 1.0, CPU)
    ratio = (gains[:, 0] / gains[:, 2]).log2()

    assert changed.all()
    assert (ratio.mean(), ratio.std()) == pytest.approx((0, sqrt(2)), abs=0.08)
    gains, changed = corrupt.band_gains(MANY, 0.05, CPU)
    single = changed & (gains.round(decimals=4).sort(1)[0].diff(dim=1) == 0).sum(1).eq(2)
    power = (gains.square() @ torch.tensor([10.0, 1, 1, 1]) / 13)[single]
    assert len(power) > 100
    assert torch.allclose(power, torch.ones_like(power), atol=1e-4)


def test_filter_scales_a_wave_by_the_gain_of_its_band():
    real = torch.cos(pi * torch.arange(64.0)).expand(300, 1, 8, 64)  # the highest frequency, in x alone
    torch.manual_seed(5)
    gains, _ = corrupt.band_gains(300, 1.0, CPU)
    torch.manual_seed(5)

    seen = corrupt.filtered(real.shape, 1.0, CPU)(real)

    middle = (..., slice(22, 42))  # the edges reach 21 pixels
    expected = (gains[:, 3] * gains[:, 0])[:, None, None, None] * real  # in y it is of the lowest frequency
    assert torch.allclose(seen[middle], expected[middle], rtol=1e-3, atol=1e-4)


def test_noise_has_a_half_normal_deviation():
    deviation = corrupt.noisy((2000, 1, 16, 16), 1.0, CPU)(torch.zeros(1)).std((1, 2, 3))

    assert deviation.mean() == pytest.approx(0.1 * sqrt(2 / pi), rel=0.05)
    assert deviation.square().mean() == pytest.approx(0.1**2, rel=0.1)


def test_cutout_hides_half_of_each_side_around_any_place():
    hidden = corrupt.cut_out((MANY, 1, 32, 64), 1.0, CPU)(torch.ones(MANY, 1, 32, 64)) == 0
    area = hidden.float().mean((1, 2, 3))

    assert area.max() == pytest.approx(0.25)
    assert area.mean() == pytest.approx((7 / 16) ** 2, rel=0.05)  # less than a quarter, beyond the edges
    middle = hidden.float().mean((0, 1))
    assert middle[16, 32] == pytest.approx(0.25, abs=0.03)
    assert middle[0, 0] == pytest.approx(0.25 / 4, abs=0.02)


@pytest.mark.parametrize("group", ada.GROUPS)
def test_share_of_a_group_multiplies_p(group):
    real = images(1, 3, 8, 8).expand(MANY, -1, -1, -1)

    def untouched(p: float, share: float) -> float:
        seen = ADA({group: share}).draw(real.shape, p, CPU)(real)
        return (seen == real).all((1, 2, 3)).float().mean().item()

    assert untouched(0.4, 0.5) == pytest.approx(untouched(0.2, 1.0), abs=0.03)
    assert untouched(0.4, 0.5) > untouched(0.4, 1.0) + 0.1


# -- DiffAugment --------------------------------------------------------------------------------------------------------


def test_diffaugment_brightness_saturation_and_contrast_are_uniform():
    flat = torch.full((MANY, 3, 2, 2), 0.2)
    offset = diffaugment.coloured(flat.shape, 1.0, CPU)(flat)[:, 0, 0, 0] - 0.2
    tinted = torch.zeros(MANY, 3, 2, 2)
    tinted[:, 0], tinted[:, 1] = 1.0, -1.0  # a tint that is the same everywhere, and grey edges
    tinted[..., 0] += 0.5
    tinted[..., 1] -= 0.5

    seen = diffaugment.coloured(tinted.shape, 1.0, CPU)(tinted)

    assert (offset.min(), offset.mean(), offset.max()) == pytest.approx((-0.5, 0, 0.5), abs=0.02)
    contrast = (seen[..., 0] - seen[..., 1]).mean((1, 2))
    assert (contrast.min(), contrast.mean(), contrast.max()) == pytest.approx((0.5, 1, 1.5), abs=0.02)
    saturation = (seen[:, 0] - seen[:, 1]).mean((1, 2)) / 2 / contrast
    assert (saturation.min(), saturation.mean(), saturation.max()) == pytest.approx((0, 1, 2), abs=0.05)
    assert offset.std() == pytest.approx(1 / sqrt(12), rel=0.05)


def test_diffaugment_translates_by_up_to_an_eighth_with_zeros_beyond():
    real = torch.zeros(MANY, 1, 32, 16)
    real[..., 16, 8] = 1.0
    seen = diffaugment.translated(real.shape, 1.0, CPU)(real)
    rows, columns = (seen.amax(axis).argmax(2)[:, 0] - middle for axis, middle in ((3, 16), (2, 8)))

    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (-4, 4, -2, 2)
    assert (rows + 4).bincount().div(MANY).tolist() == pytest.approx([1 / 9] * 9, abs=0.02)
    ones = torch.ones(MANY, 1, 32, 16)
    left = diffaugment.translated(ones.shape, 1.0, CPU)(ones)
    assert left.mean() == pytest.approx((1 - 20 / 9 / 32) * (1 - 6 / 5 / 16), rel=0.01)


def test_diffaugment_cuts_out_a_square_of_half_the_side():
    hidden = diffaugment.cut_out((MANY, 1, 32, 32), 1.0, CPU)(torch.ones(MANY, 1, 32, 32)) == 0

    assert hidden.sum((1, 2, 3)).max() == 16 * 16
    assert hidden.any(3).sum(2).min() == 8  # centred on an edge
    side = sum(min(c + 8, 32) - max(c - 8, 0) for c in range(33)) / 33
    assert hidden.float().sum((1, 2, 3)).mean() == pytest.approx(side**2, rel=0.05)


def test_diffaugment_acts_on_a_share_of_the_samples():
    real = images(MANY, 1, 8, 8)
    seen = DiffAugment({"color": 0.5}).draw(real.shape, 0.8, CPU)(real)

    assert (seen == real).all((1, 2, 3)).float().mean() == pytest.approx(0.6, abs=0.03)
